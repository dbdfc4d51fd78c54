//! Beginnings: a stack, a block, and a body in its place.

use super::block::{Body, Core, Hold, Life};
use super::handle::AnyWeakGreenlet;
use super::overflow;
use super::run::entry;
use super::thread::Here;
use crate::arch::STACK_ALIGNMENT;
use crate::greenlet::error::BuildError;
use crate::stack::{DEFAULT_SIZE, MIN_SIZE, Stack, guard_size};
use std::borrow::Cow;
use std::ptr::{self, NonNull};

/// What a greenlet is to be like.
pub(crate) struct Spec {
    pub(crate) name: Option<Cow<'static, str>>,
    pub(crate) stack_size: usize,
    pub(crate) stack: Option<Box<dyn corosensei::stack::Stack>>,
    /// Zero the stack, so that its high-water mark is this greenlet's.
    pub(crate) clean: bool,
    /// Use the current greenlet's locals.
    pub(crate) share_locals: bool,
    /// Who gets the result, if that is not the current greenlet.
    pub(crate) parent: Option<AnyWeakGreenlet>,
}

impl Default for Spec {
    fn default() -> Self {
        Spec {
            name: None,
            stack_size: DEFAULT_SIZE,
            stack: None,
            clean: false,
            share_locals: false,
            parent: None,
        }
    }
}

/// What a detached greenlet is to be like.
#[derive(Debug, Default)]
pub(crate) struct DetachedSpec {
    pub(crate) name: Option<Cow<'static, str>>,
    /// `None` for the usual one.
    pub(crate) stack_size: Option<usize>,
}

/// Makes a greenlet with a stack from the pool, the current greenlet its parent.
///
/// # Safety
///
/// What `body` borrows outlives the greenlet: it is dead, or its stack is never used again, before
/// any of it ends.
#[inline]
pub(super) unsafe fn create<In, Out, F>(body: F) -> Result<NonNull<Core>, BuildError>
where
    In: 'static,
    Out: 'static,
    F: FnOnce(In) -> Out,
{
    let here = Here::ready().ok_or(BuildError::ThreadEnded)?;
    check_body::<F>(DEFAULT_SIZE)?;
    let stack = here.pool.borrow_mut().take_default().map_err(BuildError::Stack)?;
    // SAFETY: as the caller says; the stack was just taken, and is large enough.
    Ok(unsafe { create_on(here, stack, here.running(), body) })
}

/// Makes a greenlet as `spec` says, the current greenlet its parent.
///
/// # Safety
///
/// As for [`create`].
pub(super) unsafe fn build<In, Out, F>(spec: Spec, body: F) -> Result<NonNull<Core>, BuildError>
where
    In: 'static,
    Out: 'static,
    F: FnOnce(In) -> Out,
{
    let here = Here::ready().ok_or(BuildError::ThreadEnded)?;
    let stack = match spec.stack {
        Some(custom) => {
            let size = custom.base().get() - custom.limit().get();
            // Its guard may be in there, and is likely to be of the usual size.
            check_body::<F>(size.saturating_sub(guard_size()))?;
            Stack::custom(custom)
        }
        None => {
            check_body::<F>(spec.stack_size.max(MIN_SIZE))?;
            let mut pool = here.pool.borrow_mut();
            let size = spec.stack_size;
            let stack = if spec.clean { pool.take_clean(size) } else { pool.take(size) };
            stack.map_err(BuildError::Stack)?
        }
    };
    // SAFETY: as the caller says; the stack was just taken, and is large enough.
    let block = unsafe { create_on(here, stack, here.running(), body) };
    // SAFETY: just made.
    let cold = unsafe { block.as_ref() }.cold();
    if spec.name.is_some() {
        *cold.name.borrow_mut() = spec.name;
    }
    if let Some(parent) = spec.parent {
        // No cycle: it is nobody's parent yet.
        let maker = cold.parent.replace(Some(parent.into_hold().into_block()));
        // SAFETY: a block holds its parent's.
        drop(maker.map(|maker| unsafe { Hold::from_block(maker) }));
    }
    if spec.share_locals {
        *cold.locals.borrow_mut() = Some(here.running().locals());
    }
    Ok(block)
}

/// Makes a greenlet without a handle. The caller's hold is the only one beside that of its life.
///
/// # Safety
///
/// As for [`create`].
#[inline]
pub(super) unsafe fn create_detached(
    parent: &Core,
    spec: DetachedSpec,
    body: impl FnOnce(()),
) -> Result<Hold, BuildError> {
    fn check<F>(_: &F, stack: usize) -> Result<(), BuildError> {
        check_body::<F>(stack)
    }
    let here = Here::ready().ok_or(BuildError::ThreadEnded)?;
    check(&body, spec.stack_size.map_or(DEFAULT_SIZE, |size| size.max(MIN_SIZE)))?;
    let stack = match spec.stack_size {
        None => here.pool.borrow_mut().take_default(),
        Some(size) => here.pool.borrow_mut().take(size),
    };
    // SAFETY: as the caller says; the stack was just taken, and is large enough.
    let block = unsafe { create_on(here, stack.map_err(BuildError::Stack)?, parent, body) };
    // SAFETY: that of the handle that there would be.
    let core = unsafe { Hold::from_block(block) };
    core.handles.set(0);
    if spec.name.is_some() {
        *core.cold().name.borrow_mut() = spec.name;
    }
    Ok(core)
}

/// A body may take a quarter of its stack.
fn check_body<F>(stack: usize) -> Result<(), BuildError> {
    let alignment = align_of::<F>().max(STACK_ALIGNMENT);
    if size_of::<F>() + alignment - 1 > stack / 4 {
        return Err(BuildError::Body { bytes: size_of::<F>().max(alignment), stack });
    }
    Ok(())
}

/// Makes a greenlet on `stack`.
///
/// # Safety
///
/// As for [`create`], and the stack is the caller's to give, and passes [`check_body`].
#[inline]
unsafe fn create_on<In, Out, F>(here: Here, stack: Stack, parent: &Core, body: F) -> NonNull<Core>
where
    In: 'static,
    Out: 'static,
    F: FnOnce(In) -> Out,
{
    // The body lies at the top of the stack, and the first frame begins below it.
    let alignment = align_of::<F>().max(STACK_ALIGNMENT);
    let top = stack.top();
    let offset = size_of::<F>() + (top.addr().get() - size_of::<F>()) % alignment;
    // SAFETY: within the stack, of which `check_body` leaves three quarters.
    let place = unsafe { top.sub(offset) };
    // SAFETY: aligned for `F`, in memory that is ours.
    unsafe { place.cast::<F>().write(body) };

    if here.next_id.get() == 1 {
        overflow::install();
    }
    let block = here.slab.take();
    // SAFETY: just taken.
    let core = unsafe { block.as_ref() };
    // SAFETY: the stack is the greenlet's until `reclaim`. Above `place` lies the body alone.
    unsafe { core.context.prepare(place.as_ptr(), stack.bottom().as_ptr(), entry::<In, Out, F>) };
    let parent = parent.hold().into_block();
    let (takes, gives) = (here.types.key::<In>(), here.types.key::<Out>());
    core.accepts.set(takes);
    core.door.set(gives);
    core.handles.set(1);
    core.holds.set(2); // its handle's, and its life's
    core.life.set(Life::Unstarted);
    let cold = core.cold();
    cold.id.set(here.next_id.replace(here.next_id.get() + 1));
    cold.takes.set(takes);
    cold.gives.set(gives);
    cold.parent.set(Some(parent));
    debug_assert!(cold.end_waiter.get().is_none() && cold.awaits_end_of.get().is_none());
    debug_assert!(cold.owner.take().is_none() && cold.locals.borrow().is_none());
    // A block that is used again keeps nothing of its last user.
    core.mark.set(0);
    cold.unwinding.set(0);
    cold.body.set(Some(Body { place: place.as_ptr(), drop: drop_body::<F> }));
    cold.stack.set(Some(stack));
    here.live.set(here.live.get() + 1);
    block
}

/// # Safety
///
/// `place` is of an `F` that is in place and not used again.
unsafe fn drop_body<F>(place: *mut u8) {
    // SAFETY: as the caller says.
    unsafe { ptr::drop_in_place(place.cast::<F>()) }
}
