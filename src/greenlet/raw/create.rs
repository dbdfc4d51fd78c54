//! Creation of greenlets: takes a stack and a block, and puts the body in place.
//!
//! **Contract of `create`**, which every function here that takes a body shares: what `body` borrows
//! outlives the greenlet. Before any of it ends, the greenlet is dead, or its stack is never used again.

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

/// The properties of a greenlet to be created.
pub(crate) struct Spec {
    pub(crate) name: Option<Cow<'static, str>>,
    pub(crate) stack_size: usize,
    pub(crate) stack: Option<Box<dyn corosensei::stack::Stack>>,
    /// Zero the stack, so that the high-water mark is this greenlet's.
    pub(crate) clean: bool,
    /// Use the current greenlet's locals.
    pub(crate) share_locals: bool,
    /// The receiver of the result, if it is not the current greenlet.
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

/// The properties of a detached greenlet to be created.
#[derive(Debug, Default)]
pub(crate) struct DetachedSpec {
    pub(crate) name: Option<Cow<'static, str>>,
    /// `None` for the default size.
    pub(crate) stack_size: Option<usize>,
}

/// Creates a greenlet with a stack from the pool and the current greenlet as its parent.
///
/// # Safety
///
/// The contract of `create`: see the module head.
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
    // SAFETY: the caller vouches for the contract of `create`; the stack was just taken, and passes
    // `check_body`.
    Ok(unsafe { create_on(here, stack, here.running(), body) })
}

/// Creates a greenlet as specified by `spec`. The default parent is the current greenlet.
///
/// # Safety
///
/// The contract of `create`: see the module head.
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
            // A custom stack may include its guard, which is probably of the usual size.
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
    // SAFETY: the caller vouches for the contract of `create`; the stack was just taken, and passes
    // `check_body`.
    let block = unsafe { create_on(here, stack, here.running(), body) };
    // SAFETY: the block was just made, and has the hold of its handle.
    let cold = unsafe { block.as_ref() }.cold();
    if spec.name.is_some() {
        *cold.name.borrow_mut() = spec.name;
    }
    if let Some(parent) = spec.parent {
        // This forms no cycle: the new greenlet has no children yet.
        let maker = cold.parent.replace(Some(parent.into_hold().into_block()));
        // SAFETY: `create_on` gave the block a hold of this parent, which was just taken out.
        drop(maker.map(|maker| unsafe { Hold::from_block(maker) }));
    }
    if spec.share_locals {
        *cold.locals.borrow_mut() = Some(here.running().locals());
    }
    Ok(block)
}

/// Creates a greenlet without a handle. The returned hold and that of its life are the only ones.
///
/// # Safety
///
/// The contract of `create`: see the module head.
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
    // SAFETY: the caller vouches for the contract of `create`; the stack was just taken, and passes
    // `check_body`.
    let block = unsafe { create_on(here, stack.map_err(BuildError::Stack)?, parent, body) };
    // SAFETY: `create_on` has counted a hold for a handle; there is no handle, so it is free to take.
    let core = unsafe { Hold::from_block(block) };
    core.handles.set(0);
    if spec.name.is_some() {
        *core.cold().name.borrow_mut() = spec.name;
    }
    Ok(core)
}

/// Checks that the body needs at most a quarter of its stack.
fn check_body<F>(stack: usize) -> Result<(), BuildError> {
    let alignment = align_of::<F>().max(STACK_ALIGNMENT);
    if size_of::<F>() + alignment - 1 > stack / 4 {
        return Err(BuildError::Body { bytes: size_of::<F>().max(alignment), stack });
    }
    Ok(())
}

/// Creates a greenlet on `stack`.
///
/// # Safety
///
/// The contract of `create`. The caller owns the stack, which passes [`check_body`].
#[inline]
unsafe fn create_on<In, Out, F>(here: Here, stack: Stack, parent: &Core, body: F) -> NonNull<Core>
where
    In: 'static,
    Out: 'static,
    F: FnOnce(In) -> Out,
{
    // The body is at the top of the stack, and the first frame starts below it.
    let alignment = align_of::<F>().max(STACK_ALIGNMENT);
    let top = stack.top();
    let offset = size_of::<F>() + (top.addr().get() - size_of::<F>()) % alignment;
    // SAFETY: within the stack: `check_body` has found that the body takes a quarter of it at most.
    let place = unsafe { top.sub(offset) };
    // SAFETY: `place` is aligned for `F`, and the memory of the stack is unused.
    unsafe { place.cast::<F>().write(body) };

    if here.next_id.get() == 1 {
        overflow::install();
    }
    let block = here.slab.take();
    // SAFETY: the slab has just given out this block.
    let core = unsafe { block.as_ref() };
    // SAFETY: the stack belongs to the greenlet until `reclaim`. Above `place` there is only the body.
    unsafe { core.context.prepare(place.as_ptr(), stack.bottom().as_ptr(), entry::<In, Out, F>) };
    let parent = parent.hold().into_block();
    let (input, output) = (here.types.key::<In>(), here.types.key::<Out>());
    core.accepts.set(input);
    core.reply.set(output);
    core.handles.set(1);
    core.holds.set(2); // one for its handle, one for its life
    core.life.set(Life::Unstarted);
    let cold = core.cold();
    cold.id.set(here.next_id.replace(here.next_id.get() + 1));
    cold.input.set(input);
    cold.output.set(output);
    cold.parent.set(Some(parent));
    debug_assert!(cold.end_waiter.get().is_none() && cold.awaits_end_of.get().is_none());
    debug_assert!(cold.owner.take().is_none() && cold.locals.borrow().is_none());
    // A reused block keeps nothing of its previous greenlet.
    core.mark.set(0);
    cold.unwinding.set(0);
    cold.body.set(Some(Body { place: place.as_ptr(), drop: drop_body::<F> }));
    cold.stack.set(Some(stack));
    here.live.set(here.live.get() + 1);
    block
}

/// # Safety
///
/// `place` points to a valid `F`, which is not used again.
unsafe fn drop_body<F>(place: *mut u8) {
    // SAFETY: the caller says that `place` is a valid `F`, to be dropped once.
    unsafe { ptr::drop_in_place(place.cast::<F>()) }
}
