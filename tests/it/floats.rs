//! A rounding mode that is set in one greenlet stays in it.

use crate::support::pause;
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use switchgrass::{Generator, Greenlet, pair};

unsafe extern "C" {
    safe fn fesetround(mode: i32) -> i32;
    safe fn fegetround() -> i32;
}

const NEAREST: i32 = 0;
#[cfg(target_arch = "x86_64")]
const UPWARD: i32 = 0x800;
#[cfg(target_arch = "x86_64")]
const TOWARD_ZERO: i32 = 0xc00;
#[cfg(target_arch = "aarch64")]
const UPWARD: i32 = 0x40_0000;
#[cfg(target_arch = "aarch64")]
const TOWARD_ZERO: i32 = 0xc0_0000;

/// One third is rounded down to nearest, so that up is the next number.
fn third() -> u64 {
    (black_box(1.0_f64) / black_box(3.0_f64)).to_bits()
}

/// A tenth is rounded up to nearest, so that toward zero is the number before.
fn tenth() -> u64 {
    (black_box(1.0_f64) / black_box(10.0_f64)).to_bits()
}

/// On a thread of its own, since tests may share one.
fn on_a_thread(test: fn()) {
    std::thread::spawn(test).join().unwrap();
}

#[test]
fn a_mode_stays_with_its_greenlet() {
    on_a_thread(|| {
        let (nearest, nearest_tenth) = (third(), tenth());
        let up = Greenlet::new(move |()| {
            assert_eq!(third(), nearest);
            fesetround(UPWARD);
            for _ in 0..3 {
                assert_eq!((fegetround(), third()), (UPWARD, nearest + 1));
                pause();
            }
        });
        let zero = Greenlet::new(move |()| {
            fesetround(TOWARD_ZERO);
            for _ in 0..3 {
                assert_eq!((fegetround(), tenth()), (TOWARD_ZERO, nearest_tenth - 1));
                pause();
            }
        });
        let plain = Greenlet::new(move |()| {
            for _ in 0..3 {
                assert_eq!((fegetround(), third()), (NEAREST, nearest));
                pause();
            }
        });
        for _ in 0..4 {
            for g in [&up, &plain, &zero] {
                g.switch(());
                assert_eq!((fegetround(), third(), tenth()), (NEAREST, nearest, nearest_tenth));
            }
        }
        assert!(up.is_dead() && zero.is_dead() && plain.is_dead());
    });
}

/// However it ends.
#[test]
fn a_mode_ends_with_its_greenlet() {
    on_a_thread(|| {
        assert_eq!(Greenlet::new(|()| fesetround(UPWARD)).switch(()), 0);
        assert_eq!(fegetround(), NEAREST);
        let panics = Greenlet::new(|()| -> () {
            fesetround(UPWARD);
            std::panic::resume_unwind(Box::new(()));
        });
        assert!(catch_unwind(AssertUnwindSafe(|| panics.switch(()))).is_err());
        assert_eq!(fegetround(), NEAREST);
        let dropped = Greenlet::new(|()| {
            fesetround(UPWARD);
            pause();
        });
        dropped.switch(());
        drop(dropped);
        assert_eq!(fegetround(), NEAREST);
    });
}

#[test]
fn mains_mode_is_mains() {
    on_a_thread(|| {
        let g = Greenlet::new(|()| {
            assert_eq!(fegetround(), NEAREST);
            pause();
            assert_eq!(fegetround(), NEAREST);
        });
        fesetround(UPWARD);
        g.switch(());
        assert_eq!(fegetround(), UPWARD);
        g.switch(());
        assert_eq!(fegetround(), UPWARD);
        assert_eq!(Generator::new(|y| y.yield_(fegetround())).next(), Some(NEAREST));
        fesetround(NEAREST);
    });
}

/// The library is first used under another mode: that is then what greenlets begin with, and to-nearest
/// is what one of them sets for itself.
#[test]
fn a_thread_that_began_with_another_mode() {
    on_a_thread(|| {
        fesetround(UPWARD);
        let nearest = Greenlet::new(|()| {
            assert_eq!(fegetround(), UPWARD);
            fesetround(NEAREST);
            pause();
            assert_eq!(fegetround(), NEAREST);
        });
        let plain = Greenlet::new(|()| fegetround());
        nearest.switch(());
        assert_eq!(fegetround(), UPWARD);
        assert_eq!(plain.switch(()), UPWARD);
        nearest.switch(());
        assert!(nearest.is_dead());
        assert_eq!(fegetround(), UPWARD);
    });
}

/// The three that there are here, by what the processor does and not by what it says.
fn mode_by_arithmetic() -> i32 {
    let (up, down) = (third() == NEAREST_THIRD + 1, tenth() == NEAREST_TENTH - 1);
    assert!(up || third() == NEAREST_THIRD);
    assert!(down || tenth() == NEAREST_TENTH);
    let mode = match (up, down) {
        (false, false) => NEAREST,
        (true, false) => UPWARD,
        (false, true) => TOWARD_ZERO,
        (true, true) => unreachable!("no mode rounds one up and the other down here"),
    };
    assert_eq!(fegetround(), mode);
    mode
}

/// Folded by the compiler, which rounds to nearest.
const NEAREST_THIRD: u64 = (1.0_f64 / 3.0).to_bits();
const NEAREST_TENTH: u64 = (1.0_f64 / 10.0).to_bits();

#[test]
fn a_mode_stays_with_its_generator() {
    on_a_thread(|| {
        let mut up = Generator::new(|y| {
            fesetround(UPWARD);
            for _ in 0..3 {
                y.yield_(mode_by_arithmetic());
            }
        });
        let mut plain = Generator::new(|y| (0..3).for_each(|_| y.yield_(mode_by_arithmetic())));
        fesetround(TOWARD_ZERO);
        for _ in 0..3 {
            assert_eq!((up.next(), mode_by_arithmetic()), (Some(UPWARD), TOWARD_ZERO));
            // It begins as the thread does, whoever asks first.
            assert_eq!((plain.next(), mode_by_arithmetic()), (Some(NEAREST), TOWARD_ZERO));
        }
        assert_eq!((up.next(), plain.next()), (None, None));
        assert_eq!(mode_by_arithmetic(), TOWARD_ZERO);
        fesetround(NEAREST);
    });
}

/// Destructors run in the mode of the greenlet that unwinds, and the dropper goes on in its own.
#[test]
fn the_destructors_of_a_dropped_one_have_its_mode() {
    struct Tells(mpsc::Sender<i32>);
    impl Drop for Tells {
        fn drop(&mut self) {
            self.0.send(mode_by_arithmetic()).unwrap();
        }
    }
    on_a_thread(|| {
        for (own, droppers) in [(UPWARD, NEAREST), (NEAREST, UPWARD), (UPWARD, TOWARD_ZERO)] {
            let (sender, receiver) = mpsc::channel();
            let g = Greenlet::new(move |()| {
                let _tells = Tells(sender);
                fesetround(own);
                pause();
            });
            g.switch(());
            fesetround(droppers);
            drop(g);
            assert_eq!(mode_by_arithmetic(), droppers);
            fesetround(NEAREST);
            assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [own]);
        }
    });
}

/// What is thrown is raised in the target's mode.
#[test]
fn a_throw_leaves_the_modes_alone() {
    on_a_thread(|| {
        let g = Greenlet::new(|()| -> () {
            fesetround(UPWARD);
            assert!(catch_unwind(AssertUnwindSafe(pause)).is_err());
            assert_eq!(mode_by_arithmetic(), UPWARD);
            pause();
            assert_eq!(mode_by_arithmetic(), UPWARD);
            std::panic::resume_unwind(Box::new("out"));
        });
        g.switch(());
        g.throw("in").unwrap();
        assert_eq!(mode_by_arithmetic(), NEAREST);
        assert!(catch_unwind(AssertUnwindSafe(|| g.switch(()))).is_err());
        assert_eq!(mode_by_arithmetic(), NEAREST);
    });
}

/// From sibling to sibling, without main in between.
#[test]
fn siblings_have_modes_of_their_own() {
    on_a_thread(|| {
        let up = pair(
            |zero, ()| {
                fesetround(UPWARD);
                for _ in 0..3 {
                    zero.switch(());
                    assert_eq!(mode_by_arithmetic(), UPWARD);
                }
            },
            |up, ()| {
                assert_eq!(mode_by_arithmetic(), NEAREST);
                fesetround(TOWARD_ZERO);
                loop {
                    up.switch(());
                    assert_eq!(mode_by_arithmetic(), TOWARD_ZERO);
                }
            },
        );
        up.switch(());
        assert!(up.is_dead());
        assert_eq!(mode_by_arithmetic(), NEAREST);
    });
}
