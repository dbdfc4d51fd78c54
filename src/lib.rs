#![doc = include_str!("../README.md")]

mod arch;
pub mod generator;
pub mod greenlet;
pub mod stack;
mod sys;

pub use generator::Generator;
pub use greenlet::{
    AnyGreenlet, AnyWeakGreenlet, BuildError, Builder, Greenlet, GreenletExit, Local, Mismatch,
    ParentError, SwitchError, WeakGreenlet, current, pair,
};
