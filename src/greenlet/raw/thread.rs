//! What a thread keeps for its greenlets.

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

/// What every switch reads. Without a destructor, so that it is a plain thread-local variable.
struct Hot {
    /// The greenlet that runs.
    current: Cell<*const Core>,
    /// A word that is zero as long as a switch may go the short way. See [`Thread::update_slow_path`].
    alarm: Cell<*const usize>,
    thread: Cell<*const Thread>,
    ended: Cell<bool>,
}

static QUIET: usize = 0;
static LOUD: usize = 1;

thread_local! {
    static HOT: Hot = const {
        Hot {
            current: Cell::new(ptr::null()),
            alarm: Cell::new(&raw const QUIET),
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
        // That of std is gone by now.
        alternate_stack::ensure();
        if let Some(thread) = Here::existing() {
            thread.end_thread();
        }
        set_ended();
    }
}

/// Whether a switch brings a value or raises something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TraceKind {
    Switch,
    Throw,
}

/// Is told of every switch.
pub(crate) trait Trace: Any {
    /// `to` was switched to from `from`, and has not gone on yet.
    fn switched(&self, kind: TraceKind, from: Hold, to: Hold);
}

pub(crate) type Tracer = Rc<dyn Trace>;

/// A thread's greenlets and what belongs to all of them.
pub(super) struct Thread {
    pub(super) slab: Slab,
    pub(super) pool: RefCell<Pool>,
    pub(super) types: TypeTable,
    pub(super) main: NonNull<Core>,
    pub(super) delivery: Delivery,
    pub(super) tracer: RefCell<Option<Tracer>>,
    /// The greenlet of whoever schedules the others, if somebody does.
    pub(super) scheduler: Cell<Option<Hold>>,
    /// The greenlet that calls user code with something of this library borrowed or locked: until that has
    /// returned, it runs, or those below it. See [`Thread::is_barred`].
    pub(super) pinned: RefCell<Option<Hold>>,
    /// Greenlets that are neither dead nor main.
    pub(super) live: Cell<usize>,
    pub(super) next_id: Cell<u64>,
    /// The current greenlet has lost its last handle, and perhaps does not run any more.
    pub(super) orphaned: Cell<bool>,
    pub(super) ended: Cell<bool>,
    /// std's count of panics under way, if it was found.
    panics: Option<NonNull<Cell<usize>>>,
    /// The floating-point modes of a greenlet that has set none: those in force when the thread first
    /// used this library.
    pub(super) modes: FloatModes,
    pub(super) float_probe_works: bool,
    /// Where the thread's first stack is, for AddressSanitizer.
    #[cfg(all(feature = "sanitizer", not(feature = "portable")))]
    pub(super) first_stack: (usize, usize),
}

/// What is handed over beside a value. One place a thread is enough: it is filled in by who leaves and
/// emptied by who arrives, and nothing runs in between.
#[derive(Default)]
pub(super) struct Delivery {
    pub(super) arrival: Cell<Arrival>,
    /// Who has ended with this switch: its stack is given back by who arrives.
    pub(super) finished: Cell<Option<Hold>>,
    /// Who has been left without a handle: it is unwound by who arrives.
    pub(super) orphan: Cell<Option<Hold>>,
    /// A value that nobody awaits: it is dropped by who arrives.
    pub(super) discard: Cell<Option<Box<dyn Any>>>,
    /// Who has left, if that is to be traced.
    pub(super) trace: Cell<Option<(TraceKind, Hold)>>,
    /// Whether there is anything to look at.
    pub(super) look: Cell<bool>,
}

/// What a switch brings.
#[derive(Default)]
pub(super) enum Arrival {
    /// A value of the type that is awaited.
    #[default]
    Value,
    /// Nothing to read, for one that waits for an end: the end, or something that brings it back early.
    Nothing,
    /// A panic, to be raised.
    Throw(Payload),
    /// The end of a child, without a result.
    Exit,
    /// The end of a child, with a result that is not what is awaited.
    WrongResult(Mismatch),
}

/// The calling thread's [`Thread`]. It lives until the thread has ended *and* no block is in use.
#[derive(Clone, Copy)]
pub(super) struct Here(NonNull<Thread>);

impl Deref for Here {
    type Target = Thread;

    #[inline]
    fn deref(&self) -> &Thread {
        // SAFETY: never leaves its thread, and is not kept by anybody beyond the use of a block or
        // the call that asked for it.
        unsafe { self.0.as_ref() }
    }
}

impl Here {
    /// Of a thread that has greenlets, or had.
    #[inline]
    pub(super) fn existing() -> Option<Here> {
        HOT.with(|hot| NonNull::new(hot.thread.get().cast_mut()).map(Here))
    }

    /// Of the calling thread, made if need be. `None` when the thread has ended its greenlets.
    #[inline]
    pub(super) fn ready() -> Option<Here> {
        match Here::existing() {
            Some(here) if !here.ended.get() => Some(here),
            Some(_) => None,
            None => Here::make(),
        }
    }

    /// Of a thread that has a block in use: the caller holds it.
    #[inline]
    pub(super) fn of_a_block() -> Here {
        Here::existing().expect("a block is in use on its own thread alone")
    }

    #[cold]
    fn make() -> Option<Here> {
        if HOT.with(|hot| hot.ended.get()) {
            return None;
        }
        // First, so that it is there until the thread's greenlets have been unwound: what is registered
        // first is dropped last.
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
            // It tells whether the modes are the default ones; here they must be those to begin with.
            float_probe_works: float_probe_works() && !float_modes_changed(),
            #[cfg(all(feature = "sanitizer", not(feature = "portable")))]
            first_stack: crate::sys::sanitizer::first_stack(),
        });
        // SAFETY: just taken.
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

    /// Frees the thread's state. Nobody may use any `Here` of this thread afterwards.
    ///
    /// # Safety
    ///
    /// The thread has ended its greenlets and no block is in use.
    pub(super) unsafe fn free(self) {
        HOT.with(|hot| {
            hot.thread.set(ptr::null());
            hot.current.set(ptr::null());
        });
        // SAFETY: leaked in `make`; nobody uses it any more.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }

    #[inline(always)]
    pub(super) fn current(self) -> NonNull<Core> {
        current().expect("a thread with state has a current greenlet")
    }

    /// Whether the thread unwinds and cannot be left in that state.
    pub(super) fn cannot_carry_panics(self) -> bool {
        self.panics().is_none() && std::thread::panicking()
    }

    /// The greenlet that runs.
    #[inline(always)]
    pub(super) fn running(&self) -> &Core {
        // SAFETY: the current greenlet is alive, and so is its block.
        unsafe { self.current().as_ref() }
    }

    #[inline(always)]
    pub(super) fn set_current(self, core: NonNull<Core>) {
        set_current(core);
    }

    /// The current greenlet has lost its last handle: whoever it leaves the thread to unwinds it.
    pub(super) fn set_orphaned(self) {
        self.orphaned.set(true);
        self.update_slow_path();
    }

    /// Decides whether switches may go the short way.
    ///
    /// The alarm is a *pointer*, normally to std's count of panics, so that one load and one comparison
    /// say at once that the thread does not unwind, that nobody traces, and that the current greenlet
    /// has a handle. If one of the latter is not so, it points to a word that is never zero.
    pub(super) fn update_slow_path(self) {
        let loud = self.tracer.borrow().is_some()
            || self.pinned.borrow().is_some()
            || self.orphaned.get()
            || !self.float_probe_works
            || (self.panics().is_none() && !cfg!(panic = "abort"));
        let word = match self.panics() {
            _ if loud => &raw const LOUD,
            Some(count) => count.as_ptr().cast_const(),
            None => &raw const QUIET,
        };
        HOT.with(|hot| hot.alarm.set(word));
    }
}

/// Says that the thread has ended its greenlets, and makes no more.
pub(super) fn set_ended() {
    HOT.with(|hot| hot.ended.set(true));
}

/// Whether the thread has ended its greenlets.
pub(crate) fn has_ended() -> bool {
    HOT.with(|hot| hot.ended.get())
}

/// The greenlet that runs, on a thread that has state.
#[inline(always)]
pub(super) fn current() -> Option<NonNull<Core>> {
    HOT.with(|hot| NonNull::new(hot.current.get().cast_mut()))
}

#[inline(always)]
pub(super) fn set_current(core: NonNull<Core>) {
    HOT.with(|hot| hot.current.set(core.as_ptr()));
}

/// Whether a switch must not go the short way: see [`Here::update_slow_path`].
#[inline(always)]
pub(super) fn must_take_slow_path() -> bool {
    // SAFETY: points to a static, or to the calling thread's count of panics, which lives as long as
    // the thread. Volatile, since std writes to it unseen by the compiler.
    HOT.with(|hot| unsafe { hot.alarm.get().read_volatile() } != 0)
}

impl Delivery {
    /// Leaves a value to be dropped by the greenlet that arrives.
    pub(super) fn discard_later(&self, value: Box<dyn Any>) {
        let forgotten = self.discard.replace(Some(value));
        debug_assert!(forgotten.is_none(), "what is left with a switch is taken at its arrival");
        self.look.set(true);
    }
}

impl Thread {
    pub(super) fn is_scheduler(&self, core: &Core) -> bool {
        // SAFETY: nothing but the comparison uses the reference.
        let scheduler = unsafe { &*self.scheduler.as_ptr() };
        scheduler.as_ref().is_some_and(|scheduler| ptr::eq(&**scheduler, core))
    }

    pub(super) fn scheduler(&self) -> Option<Hold> {
        // SAFETY: a hold runs no user code, so the cell is not written to meanwhile.
        let scheduler = unsafe { &*self.scheduler.as_ptr() };
        scheduler.as_ref().map(|scheduler| scheduler.hold())
    }

    pub(super) fn tracer(&self) -> Option<Tracer> {
        self.tracer.borrow().as_ref().map(Rc::clone)
    }

    /// The thread's count of panics under way, if it was found.
    pub(super) fn panics(&self) -> Option<&Cell<usize>> {
        // SAFETY: a word of this thread's thread-local storage, which outlives this.
        self.panics.map(|word| unsafe { word.as_ref() })
    }
}
