//! What becomes of main, on the thread that a process begins with: this runs itself again for that.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Output};
use std::time::Duration;
use switchgrass::{coroutine, sleep, spawn};

const CASE: &str = "SWITCHGRASS_MAIN_CASE";

fn run(case: &str) -> Output {
    let mut again = Command::new(std::env::current_exe().expect("this runs"));
    again.env(CASE, case).output().expect("this can run again")
}

fn main() {
    match std::env::var(CASE).as_deref() {
        Ok("killed") => {
            let main = coroutine::current();
            spawn(move || main.kill());
            sleep(Duration::from_secs(60));
        }
        Ok("kills itself") => coroutine::current().kill(),
        Ok("catches") => {
            let main = coroutine::current();
            spawn(move || main.kill_with(Box::new("a reason")));
            let caught = catch_unwind(AssertUnwindSafe(|| sleep(Duration::from_secs(60))));
            assert_eq!(*caught.unwrap_err().downcast::<&str>().unwrap(), "a reason");
        }
        _ => {
            for case in ["killed", "kills itself"] {
                let output = run(case);
                assert_eq!(output.status.code(), Some(101), "{case}");
                let said = String::from_utf8_lossy(&output.stderr);
                assert!(said.contains("main was killed"), "{case}: {said:?}");
            }
            let output = run("catches");
            assert!(output.status.success());
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains("ends the process unless it is caught: a reason"), "{said:?}");
        }
    }
}
