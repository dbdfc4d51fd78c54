//! The per-thread state of the engine.

use super::block::{Core, Hold, Life};
use super::dropping::Payload;
use super::slab::Slab;
use super::types::{TypeKey, TypeTable};
use crate::arch::{FloatModes, float_modes_changed, float_probe_works};
use crate::greenlet::error::Mismatch;
use crate::stack::Pool;
use crate::sys::{alternate_stack, panic_count};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::rc::Rc;

/// The thread-local variables that every switch reads. Without a destructor, so that each access is a plain
/// load or store.
struct Hot {
    /// The current greenlet.
    current: Cell<*const Core>,
    /// The slow-path flag: points to a word that is zero while switches may take the fast path. See
    /// [`Here::update_slow_path`].
    slow_path: Cell<*const usize>,
    thread: Cell<*const Thread>,
    ended: Cell<bool>,
}

static ZERO: usize = 0;
static NONZERO: usize = 1;

thread_local! {
    static HOT: Hot = const {
        Hot {
            current: Cell::new(ptr::null()),
            slow_path: Cell::new(&raw const ZERO),
            thread: Cell::new(ptr::null()),
            ended: Cell::new(false),
        }
    };

    /// Ends the thread's greenlets when the thread ends.
    static END: End = const { End };
}

struct End;

impl Drop for End {
    fn drop(&mut self) {
        // std has released its alternate stack by now.
        alternate_stack::ensure();
        if let Some(thread) = Here::existing() {
            thread.end_thread();
        }
        set_ended();
    }
}

/// Whether a switch brings a value or raises a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TraceKind {
    Switch,
    Throw,
}

/// A hook that is called at every switch.
pub(crate) trait Trace: Any {
    /// Called after a switch from `from` to `to`, before `to` continues.
    fn switched(&self, kind: TraceKind, from: Hold, to: Hold);
}

pub(crate) type Tracer = Rc<dyn Trace>;

/// A thread's greenlets and their shared state.
pub(super) struct Thread {
    pub(super) slab: Slab,
    pub(super) pool: RefCell<Pool>,
    pub(super) types: TypeTable,
    pub(super) main: NonNull<Core>,
    pub(super) delivery: Delivery,
    pub(super) tracer: RefCell<Option<Tracer>>,
    /// The scheduler's own greenlet, if there is a scheduler.
    pub(super) scheduler: Cell<Option<Hold>>,
    /// The greenlet that calls user code while this library holds a borrow or a lock. Until the user code
    /// returns, only this greenlet and those that run on its behalf may run. See [`Thread::is_barred`].
    pub(super) pinned: RefCell<Option<Hold>>,
    /// Number of greenlets that are neither dead nor main.
    pub(super) live: Cell<usize>,
    pub(super) next_id: Cell<u64>,
    /// The current greenlet has lost its last handle. It may have a handle again since.
    pub(super) orphaned: Cell<bool>,
    pub(super) ended: Cell<bool>,
    /// std's count of active panics, if it was found.
    panics: Option<NonNull<Cell<usize>>>,
    /// The floating-point modes of a greenlet that has not changed them: those in force when the thread
    /// first used this library.
    pub(super) modes: FloatModes,
    pub(super) float_probe_works: bool,
    /// The bounds of the thread's first stack, for AddressSanitizer.
    #[cfg(all(feature = "sanitizer", not(feature = "portable")))]
    pub(super) first_stack: (usize, usize),
}

/// What is delivered in addition to a value. One per thread is enough: the greenlet that leaves fills it
/// in, the greenlet that arrives empties it, and nothing runs in between.
#[derive(Default)]
pub(super) struct Delivery {
    pub(super) arrival: Cell<Arrival>,
    /// The greenlet that has ended with this switch: its stack is given back on arrival.
    pub(super) finished: Cell<Option<Hold>>,
    /// A greenlet left without a handle: it is unwound on arrival.
    pub(super) orphan: Cell<Option<Hold>>,
    /// A value of a type that is not awaited: it is dropped on arrival.
    pub(super) discard: Cell<Option<Box<dyn Any>>>,
    /// The greenlet that has left, if the switch is traced.
    pub(super) trace: Cell<Option<(TraceKind, Hold)>>,
    /// Whether the delivery must be read.
    pub(super) is_pending: Cell<bool>,
}

/// What a switch brings.
#[derive(Default)]
pub(super) enum Arrival {
    /// A value of the awaited type.
    #[default]
    Value,
    /// No value, for a waiter for an end: the end, or an early return.
    Nothing,
    /// A panic, to be raised.
    Throw(Payload),
    /// The end of a child, without a result.
    Exit,
    /// The end of a child, with a result of a type that is not awaited.
    WrongResult(Mismatch),
}

/// The calling thread's [`Thread`]. It lives until the thread has ended *and* no block is in use.
#[derive(Clone, Copy)]
pub(super) struct Here(NonNull<Thread>);

impl Deref for Here {
    type Target = Thread;

    #[inline]
    fn deref(&self) -> &Thread {
        // SAFETY: a `Here` does not leave its thread, and is not used after the block, or the call, that it
        // was obtained for; the state lives as long as these.
        unsafe { self.0.as_ref() }
    }
}

impl Here {
    /// Returns the state of a thread that has, or had, greenlets.
    #[inline]
    pub(super) fn existing() -> Option<Here> {
        HOT.with(|hot| NonNull::new(hot.thread.get().cast_mut()).map(Here))
    }

    /// Returns the state of the calling thread, created if necessary. `None` if the thread has ended its
    /// greenlets.
    #[inline]
    pub(super) fn ready() -> Option<Here> {
        match Here::existing() {
            Some(here) if !here.ended.get() => Some(here),
            Some(_) => None,
            None => Here::make(),
        }
    }

    /// Returns the state of a thread that has a block in use: the caller holds it.
    #[inline]
    pub(super) fn of_a_block() -> Here {
        Here::existing().expect("a block is only used on its own thread, which has state")
    }

    #[cold]
    fn make() -> Option<Here> {
        if HOT.with(|hot| hot.ended.get()) {
            return None;
        }
        // Registered before `END`, and so dropped after it: destructors run in reverse order. The alternate
        // stack must exist until the thread's greenlets are unwound.
        alternate_stack::ensure();
        END.try_with(|_| ()).ok()?;
        let slab = Slab::new();
        let main = slab.take();
        let thread = Box::new(Thread {
            slab,
            pool: RefCell::new(Pool::new()),
            types: TypeTable::new(),
            main,
            delivery: Delivery::default(),
            tracer: RefCell::new(None),
            scheduler: Cell::new(None),
            pinned: RefCell::new(None),
            live: Cell::new(0),
            next_id: Cell::new(1),
            orphaned: Cell::new(false),
            ended: Cell::new(false),
            panics: panic_count::find(),
            modes: FloatModes::current(),
            // The probe detects changed modes by comparison with the defaults, so these must be in force
            // now.
            float_probe_works: float_probe_works() && !float_modes_changed(),
            #[cfg(all(feature = "sanitizer", not(feature = "portable")))]
            first_stack: crate::sys::sanitizer::first_stack(),
        });
        // SAFETY: the slab has just given out this block.
        let block = unsafe { main.as_ref() };
        block.life.set(Life::Started);
        block.holds.set(1);
        block.accepts.set(TypeKey::NONE);
        *block.cold().name.borrow_mut() = Some("main".into());
        let here = Here(NonNull::from(Box::leak(thread)));
        HOT.with(|hot| {
            hot.current.set(main.as_ptr());
            hot.thread.set(here.0.as_ptr());
        });
        here.update_slow_path();
        Some(here)
    }

    /// Frees the thread's state. No `Here` of this thread may be used afterwards.
    ///
    /// # Safety
    ///
    /// The thread has ended its greenlets and no block is in use.
    pub(super) unsafe fn free(self) {
        HOT.with(|hot| {
            hot.thread.set(ptr::null());
            hot.current.set(ptr::null());
        });
        // SAFETY: leaked in `make`; not used any more, says the caller.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }

    #[inline(always)]
    pub(super) fn current(self) -> NonNull<Core> {
        current().expect("a thread with state has a current greenlet")
    }

    /// Returns whether the thread is unwinding, and its panic count cannot be saved for a switch.
    pub(super) fn cannot_carry_panics(self) -> bool {
        self.panics().is_none() && std::thread::panicking()
    }

    /// Returns the current greenlet.
    #[inline(always)]
    pub(super) fn running(&self) -> &Core {
        // SAFETY: the current greenlet is alive, and so has the hold of its life.
        unsafe { self.current().as_ref() }
    }

    #[inline(always)]
    pub(super) fn set_current(self, core: NonNull<Core>) {
        set_current(core);
    }

    /// Notes that the current greenlet has lost its last handle: the greenlet that it next switches to
    /// unwinds it.
    pub(super) fn set_orphaned(self) {
        self.orphaned.set(true);
        self.update_slow_path();
    }

    /// Sets the slow-path flag, which decides whether switches may take the fast path.
    ///
    /// The flag is a *pointer*, normally to std's panic count. So one load and one comparison find that the
    /// thread does not unwind, that there is no tracer and no pinned greenlet, and that the current
    /// greenlet has a handle. If one of the latter conditions fails, it points to a word that is never
    /// zero.
    pub(super) fn update_slow_path(self) {
        let is_slow = self.tracer.borrow().is_some()
            || self.pinned.borrow().is_some()
            || self.orphaned.get()
            || !self.float_probe_works
            || (self.panics().is_none() && !cfg!(panic = "abort"));
        let word = match self.panics() {
            _ if is_slow => &raw const NONZERO,
            Some(count) => count.as_ptr().cast_const(),
            None => &raw const ZERO,
        };
        HOT.with(|hot| hot.slow_path.set(word));
    }
}

/// Notes that the thread has ended its greenlets and creates no more.
pub(super) fn set_ended() {
    HOT.with(|hot| hot.ended.set(true));
}

/// Returns whether the thread has ended its greenlets.
pub(crate) fn has_ended() -> bool {
    HOT.with(|hot| hot.ended.get())
}

/// Returns the current greenlet, on a thread that has state.
#[inline(always)]
pub(super) fn current() -> Option<NonNull<Core>> {
    HOT.with(|hot| NonNull::new(hot.current.get().cast_mut()))
}

#[inline(always)]
pub(super) fn set_current(core: NonNull<Core>) {
    HOT.with(|hot| hot.current.set(core.as_ptr()));
}

/// Returns whether a switch must take the slow path: see [`Here::update_slow_path`].
#[inline(always)]
pub(super) fn must_take_slow_path() -> bool {
    // SAFETY: points to a static, or to the calling thread's panic count, which lives as long as the
    // thread. Volatile, since std writes to it unseen by the compiler.
    HOT.with(|hot| unsafe { hot.slow_path.get().read_volatile() } != 0)
}

impl Delivery {
    /// Leaves a value to be dropped by the greenlet that arrives.
    pub(super) fn discard_later(&self, value: Box<dyn Any>) {
        let forgotten = self.discard.replace(Some(value));
        debug_assert!(forgotten.is_none(), "each arrival empties the delivery");
        self.is_pending.set(true);
    }
}

impl Thread {
    pub(super) fn is_scheduler(&self, core: &Core) -> bool {
        // SAFETY: the reference is only used for the comparison, which does not write to the cell.
        let scheduler = unsafe { &*self.scheduler.as_ptr() };
        scheduler.as_ref().is_some_and(|scheduler| ptr::eq(&**scheduler, core))
    }

    pub(super) fn scheduler(&self) -> Option<Hold> {
        // SAFETY: adding a hold runs no user code, so nothing writes to the cell meanwhile.
        let scheduler = unsafe { &*self.scheduler.as_ptr() };
        scheduler.as_ref().map(|scheduler| scheduler.hold())
    }

    pub(super) fn tracer(&self) -> Option<Tracer> {
        self.tracer.borrow().as_ref().map(Rc::clone)
    }

    /// Returns the thread's count of active panics, if it was found.
    pub(super) fn panics(&self) -> Option<&Cell<usize>> {
        // SAFETY: a word of this thread's thread-local storage, which outlives `self`.
        self.panics.map(|word| unsafe { word.as_ref() })
    }
}
