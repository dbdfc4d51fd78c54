//! A C function that calls back, turned inside out: nftw(3), which walks a directory, as an iterator.
//!
//! Type `cargo run --example nftw_iter -- /usr/share/doc`, and see the first twenty paths below that
//! directory (without an argument, below this one) with their sizes, and how many there are in all.

use std::any::Any;
use std::cell::{Cell, OnceCell};
use std::ffi::{CStr, CString, OsStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::{env, io};
use switchgrass::Local;
use switchgrass::generator::{Generator, Yielder};

/// `struct FTW`
#[repr(C)]
struct Place {
    base: c_int,
    level: c_int,
}

type Path = *const c_char;
type Visit = extern "C" fn(Path, *const libc::stat, c_int, *const Place) -> c_int;

unsafe extern "C" {
    fn nftw(root: Path, visit: Visit, descriptors: c_int, flags: c_int) -> c_int;
}
/// Do not follow symbolic links.
const FTW_PHYS: c_int = 1;
/// There is no `stat`.
const FTW_NS: c_int = 3;

struct Entry {
    name: OsString,
    depth: usize,
    bytes: i64,
}

/// What the callback needs and nftw does not hand on. Each generator's greenlet has its own, so that
/// many walks can be under way.
#[derive(Default)]
struct Walk {
    yielder: OnceCell<Yielder<io::Result<Entry>>>,
    thrown: Cell<Option<Box<dyn Any + Send>>>,
}

static WALK: Local<Walk> = Local::new(Walk::default);

extern "C" fn visit(
    path: Path,
    stat: *const libc::stat,
    kind: c_int,
    place: *const Place,
) -> c_int {
    // SAFETY: nftw hands over what it has, for the time of this call; only `stat` may not be there.
    let (path, place, stat) = unsafe { (CStr::from_ptr(path), &*place, stat.as_ref()) };
    let bytes = stat.filter(|_| kind != FTW_NS).map_or(0, |stat| stat.st_size);
    let name = OsStr::from_bytes(&path.to_bytes()[place.base as usize..]).to_owned();
    let entry = Entry { name, depth: place.level as usize, bytes };
    WALK.with(|walk| {
        // When the generator is dropped, a panic is raised here. It must not unwind C's frames: it is
        // put aside, nftw is told to stop and clears up, and then it is raised again.
        let yielder = walk.yielder.get().expect("set before nftw was called");
        match catch_unwind(AssertUnwindSafe(|| yielder.yield_(Ok(entry)))) {
            Ok(()) => 0,
            Err(payload) => {
                walk.thrown.set(Some(payload));
                1
            }
        }
    })
}

fn walk(root: CString) -> Generator<io::Result<Entry>> {
    Generator::new(move |y| {
        WALK.with(|walk| {
            let y = walk.yielder.get_or_init(|| y);
            // SAFETY: a C string, a callback that does not unwind, and at most 16 open directories.
            let result = unsafe { nftw(root.as_ptr(), visit, 16, FTW_PHYS) };
            if let Some(payload) = walk.thrown.take() {
                resume_unwind(payload);
            }
            if result != 0 {
                y.yield_(Err(io::Error::last_os_error()));
            }
        })
    })
}

fn main() -> io::Result<()> {
    let root = CString::new(env::args().nth(1).unwrap_or(".".into()))?;
    let mut all = walk(root.clone());
    for entry in all.by_ref().take(20) {
        let Entry { name, depth, bytes } = entry?;
        println!("{bytes:>10}  {:1$}{name}", "", 2 * depth, name = name.display());
    }
    println!("and {} more", all.count());

    // Dropped in the middle: nftw closes its directories.
    let open = || std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let (before, mut stopped) = (open(), walk(root));
    stopped.by_ref().take(3).for_each(drop);
    println!("descriptors open in the middle of a walk: {} more", open() - before);
    drop(stopped);
    println!("descriptors open after it: {} more", open() - before);
    Ok(())
}
