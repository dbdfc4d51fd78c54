//! Programs of greenlets: they make, switch to, throw into, drop and re-parent each other at random.

use crate::list::List;
use crate::steps::{self, Action, actions, guarded, run, step};
use crate::values::{Body, Value};
use crate::{finding, random};
use corosensei::stack::DefaultStack;
use std::cell::Cell;
use std::rc::Rc;
use switchgrass::generator::Yielder;
use switchgrass::greenlet::{self, TraceHook};
use switchgrass::{
    AnyGreenlet, AnyWeakGreenlet, Builder, Generator, Greenlet, GreenletExit, Local, WeakGreenlet,
    current, pair,
};

thread_local! {
    static ALL: List<AnyWeakGreenlet> = const { List::new() };
    static COUNTED: List<AnyGreenlet> = const { List::new() };
    static GENERATORS: List<Generator<Value, Value>> = const { List::new() };
    static AT_THE_END: AtTheEnd = const { AtTheEnd };
}

static LOCAL: Local<Value> = Local::new(|| {
    if random::one_in(4) {
        steps::step_in_callback("in_local");
    }
    Value::new()
});

/// A variable whose destructor goes on using the library: after the greenlets were unwound, or before, which
/// depends on what was used first.
struct AtTheEnd;

impl Drop for AtTheEnd {
    fn drop(&mut self) {
        for _ in 0..3 {
            steps::swallow(step);
        }
    }
}

/// Runs the program of the seed that the random numbers were started with.
pub(crate) fn program() {
    steps::start(300, act);
    let late = random::one_in(2);
    if late {
        AT_THE_END.with(|_| ());
    }
    let main = current();
    ALL.with(|all| all.push(main.clone()));
    if !late && random::one_in(2) {
        AT_THE_END.with(|_| ());
    }
    while steps::are_left() {
        steps::swallow(step);
        expect_current(&main);
    }
    steps::swallow(|| drop(greenlet::set_trace(None)));
    // Otherwise the end of the thread does all of this.
    if random::one_in(2) {
        steps::swallow(|| GENERATORS.with(List::clear));
        steps::swallow(|| COUNTED.with(List::clear));
        steps::swallow(|| ALL.with(List::clear));
        steps::swallow(greenlet::unwind_all);
        expect_current(&main);
        if steps::is_tame() && greenlet::live_count() > 0 {
            finding(&format!("unwind_all has left {} greenlets", greenlet::live_count()));
        }
    }
}

fn expect_current(me: &AnyWeakGreenlet) {
    if !me.is_current() || current() != *me {
        finding("a greenlet that runs is not the current one");
    }
}

fn any() -> Option<AnyWeakGreenlet> {
    ALL.try_with(List::any).ok().flatten()
}

/// Keeps a weak handle, and mostly a counted one.
fn keep(greenlet: AnyGreenlet) {
    let _ = ALL.try_with(|all| all.push(greenlet.downgrade()));
    if !random::one_in(3) {
        keep_counted(greenlet);
    }
}

fn keep_counted(greenlet: AnyGreenlet) {
    // Where the list is gone, the handle is dropped.
    let _ = COUNTED.try_with(move |all| all.push(greenlet));
}

fn take_counted() -> Option<AnyGreenlet> {
    COUNTED.try_with(List::take_any).ok().flatten()
}

fn take_generator() -> Option<Generator<Value, Value>> {
    GENERATORS.try_with(List::take_any).ok().flatten()
}

fn act() {
    const ACTIONS: &[Action] = actions![
        2 make_number,
        2 make_value,
        2 make_unit,
        2 build,
        3 switch_number,
        3 switch_value,
        3 switch_unit,
        1 switch_crosswise,
        2 switch_typed,
        2 throw,
        2 drop_counted,
        1 unwind_all,
        2 upgrade,
        1 scoped,
        1 scoped_generator,
        1 keep_generator,
        2 use_generator,
        1 use_local,
        1 reparent,
        1 make_pair,
        1 trace,
    ];
    steps::act(ACTIONS);
}

fn drop_counted() {
    drop(take_counted());
}

fn switch_number() {
    switch_any::<u64, u64>(5);
}

fn switch_value() {
    switch_any::<Value, Value>(Value::new());
}

fn switch_unit() {
    switch_any::<(), ()>(());
}

fn switch_crosswise() {
    if random::one_in(2) {
        switch_any::<(), Value>(());
    } else {
        switch_any::<Value, ()>(Value::new());
    }
}

fn make_number() {
    let body = Body::new();
    let greenlet = Greenlet::new(move |number: u64| {
        let _body = body;
        let _value = Value::new();
        run(6);
        number + 1
    });
    keep(greenlet.erase());
}

fn make_value() {
    let body = Body::new();
    let greenlet = Greenlet::new(move |value: Value| {
        // Outlives the rest, and so the parameter as well.
        let _body = body;
        let value = value;
        value.check();
        let other = Value::new();
        run(6);
        // Before there is a result: where a destructor panics, rustc leaks that (rust-lang/rust#47949).
        drop(other);
        if random::one_in(5) {
            drop(value);
            return Value::new();
        }
        value
    });
    keep(greenlet.erase());
}

fn make_unit() {
    let (body, captured) = (Body::new(), Value::new());
    let greenlet = Greenlet::new(move |()| {
        let _body = body;
        let captured = captured;
        run(8);
        captured.check();
        if random::one_in(8) {
            steps::fail();
        }
    });
    keep(greenlet.erase());
}

/// With another parent, another stack, a name.
fn build() {
    let mut builder = Builder::new();
    if let Some(parent) = any() {
        builder = builder.parent(&parent);
    }
    if random::one_in(2) {
        builder = builder.share_locals();
    }
    builder = match random::below(4) {
        0 => builder.stack_size(512 << 10).name("named"),
        1 => match DefaultStack::new(512 << 10) {
            Ok(stack) => builder.stack(stack),
            Err(_) => builder,
        },
        2 => builder.clean_stack(),
        _ => builder,
    };
    let (body, captured) = (Body::new(), Value::new());
    let built = builder.build(move |()| {
        let _body = body;
        captured.check();
        run(3);
        captured
    });
    if let Ok(greenlet) = built {
        keep(greenlet.erase());
    }
}

fn switch_any<T: 'static, R: Checked>(value: T) {
    let Some(target) = any() else { return };
    let me = current();
    let received = target.try_switch_any::<T, R>(value);
    expect_current(&me);
    if let Ok(received) = received {
        received.check();
    }
}

/// What is received is looked at.
trait Checked: 'static {
    fn check(&self) {}
}
impl Checked for u64 {}
impl Checked for () {}
impl Checked for Value {
    fn check(&self) {
        Value::check(self);
    }
}

/// The short way, if the types are the declared ones.
fn switch_typed() {
    let Some(target) = any() else { return };
    let me = current();
    if let Some(target) = target.to_types::<u64, u64>() {
        let _ = target.try_switch(7);
    } else if let Some(target) = target.to_types::<Value, Value>() {
        if let Ok(value) = target.try_switch(Value::new()) {
            value.check();
        }
    } else if let Some(target) = target.to_types::<(), ()>() {
        target.switch(());
    }
    expect_current(&me);
}

fn throw() {
    let Some(target) = any() else { return };
    match random::below(4) {
        0 => drop(target.throw_any::<()>(Box::new("thrown on purpose"))),
        1 => drop(target.throw_any::<Value>(Box::new(Value::new())).map(|value| value.check())),
        _ => drop(target.throw_any::<()>(Box::new(GreenletExit))),
    }
}

/// A greenlet that is unwound from within, by its descendant, throws into that, and `unwind_all` swallows it: so
/// a tame program calls it in main.
fn unwind_all() {
    if random::one_in(4) && (!steps::is_tame() || current().parent().is_none()) {
        greenlet::unwind_all();
    }
}

/// Shows greenlets, and keeps a counted handle of one.
fn upgrade() {
    let Some(greenlet) = any() else { return };
    let _ = format!("{greenlet:?} {:?}", greenlet.parent());
    if let Some(counted) = greenlet.upgrade() {
        keep_counted(counted);
    }
}

fn reparent() {
    if let (Some(child), Some(parent)) = (any(), any()) {
        let _ = child.set_parent(&parent);
    }
}

fn scoped() {
    let borrowed = Value::new();
    let body = |()| {
        let _body = Body::new();
        borrowed.check();
        run(4);
        borrowed.check();
    };
    let made = greenlet::scoped(body, |greenlet| {
        borrowed.check();
        let weak = greenlet.clone().erase().downgrade();
        let _ = ALL.try_with(|all| all.push(weak));
        if !random::one_in(4) {
            let _ = greenlet.try_switch(());
        }
        run(2);
        borrowed.check();
        greenlet.downgrade()
    });
    if made.is_ok_and(|greenlet| !greenlet.is_dead()) {
        finding("a scoped greenlet has outlived its scope");
    }
}

fn scoped_generator() {
    let borrowed = Value::tagged(3);
    let body = |yielder: Yielder<Value>| {
        let _body = Body::new();
        for _ in 0..3 {
            yielder.yield_(Value::tagged(borrowed.check()));
            run(1);
        }
    };
    let _ = Generator::scoped(body, |generator| {
        for value in generator.by_ref().take(random::below(5) as usize) {
            if value.check() != 3 {
                finding("a generator's value is another's");
            }
            run(1);
        }
    });
}

/// Yields what it was sent before.
fn keep_generator() {
    let body = Body::new();
    let generator = Generator::with_input(move |yielder, sent: Value| {
        let _body = body;
        let (yielder, mut sent) = (yielder, sent);
        let _ = ALL.try_with(|all| all.push(current()));
        for _ in 0..4 {
            sent.check();
            run(2);
            sent = match random::below(6) {
                // By a greenlet in between.
                0 => {
                    let (inner, body) = (yielder.clone(), Body::new());
                    let helper = Greenlet::new(move |value: Value| {
                        let (_body, inner) = (body, inner);
                        inner.yield_(value)
                    });
                    let sent = helper.try_switch(sent);
                    // Before there is a result, as in `make_value`.
                    drop(helper);
                    let Ok(sent) = sent else { return };
                    sent
                }
                1 => match yielder.try_yield(sent) {
                    Ok(sent) | Err(sent) => sent,
                },
                _ => yielder.yield_(sent),
            };
        }
    });
    let _ = GENERATORS.try_with(move |all| all.push(generator));
}

fn use_generator() {
    let Some(mut generator) = take_generator() else { return };
    for _ in 0..random::below(4) {
        match generator.send(Value::tagged(8)) {
            Some(value) => drop(value.check()),
            None if !generator.is_finished() => return,
            None => break,
        }
        run(1);
    }
    match random::below(3) {
        0 => generator.close(),
        _ => drop(GENERATORS.try_with(move |all| all.push(generator))),
    }
}

fn use_local() {
    LOCAL.with(|value| {
        value.check();
        run(1);
        value.check();
    });
}

fn make_pair() {
    let (first, second) = (Body::new(), Body::new());
    let ping = pair(
        move |pong: Greenlet<Value, u64>, number: u64| {
            let _body = first;
            let pong = pong;
            run(2);
            let number = number + pong.try_switch(Value::new()).unwrap_or(0);
            run(2);
            drop(pong);
            Value::tagged(number)
        },
        move |ping: WeakGreenlet<u64, Value>, value: Value| {
            let _body = second;
            let value = value;
            value.check();
            run(2);
            if let Ok(value) = ping.try_switch(3) {
                value.check();
            }
            1
        },
    );
    keep(ping.erase());
}

/// A hook that takes steps, panics, or takes itself away.
fn trace() {
    if random::one_in(2) {
        drop(greenlet::set_trace(None));
        return;
    }
    let (captured, calls) = (Value::new(), Cell::new(random::below(12)));
    let hook: TraceHook = Rc::new(move |event| {
        captured.check();
        let Some(left) = calls.get().checked_sub(1) else { return };
        calls.set(left);
        let _ = format!("{event:?}");
        match random::below(24) {
            0 | 1 => steps::step_in_callback("in_trace"),
            2 => drop(greenlet::set_trace(None)),
            3 if !std::thread::panicking() && !steps::is_tame() => steps::fail(),
            _ => {}
        }
        captured.check();
    });
    guarded(|| drop(greenlet::set_trace(Some(hook))));
}
