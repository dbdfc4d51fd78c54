//! The stack-overflow message.

use super::thread;
use crate::sys::fault;
use crate::sys::stderr::{self, Decimal};
use std::process;

/// Installs the handler for overflows, once per process, when the first greenlet is created.
pub(super) fn install() {
    fault::install(inspect);
}

/// Reports the fault and ends the process if it is an overflow of the current greenlet's stack. Runs in a
/// signal handler, on the alternate stack.
fn inspect(address: usize) {
    let Some(current) = thread::current() else { return };
    // SAFETY: the current greenlet is alive. What is read here is not being written while its code runs
    // into its guard.
    let cold = unsafe { current.as_ref() }.cold();
    let Some(stack) = cold.stack.get().filter(|stack| stack.guards(address)) else { return };
    let (id, size) = (Decimal::new(cold.id.get()), Decimal::new(stack.size() as u64));
    let name = cold.name.try_borrow().ok();
    let name = name.as_ref().and_then(|name| name.as_deref());
    let (before, name, after) = match name {
        Some(name) => ("'", name, "'"),
        None => ("#", id.as_str(), ""),
    };
    stderr::write(&[
        "\nswitchgrass: greenlet ",
        before,
        name,
        after,
        " has overflowed its stack of ",
        size.as_str(),
        " bytes; set a larger size with Builder::stack_size\n",
    ]);
    process::abort();
}
