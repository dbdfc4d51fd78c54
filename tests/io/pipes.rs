//! Pipes, and what else is made cooperative.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};
use switchgrass::io::{Descriptor, pipe};
use switchgrass::{spawn, timeout, yield_now};

/// {test__os}: a megabyte through a pipe that holds much less, byte for byte, also by several.
#[test]
fn more_than_fits_goes_through() {
    const SIZE: usize = 1 << 20;
    let (reader, mut writer) = pipe().unwrap();
    let producer = spawn(move || {
        for chunk in 0..SIZE / 1024 {
            writer.write_all(&[chunk as u8; 1024]).unwrap();
        }
    });
    let reader = Rc::new(reader);
    let consumers: Vec<_> = (0..3)
        .map(|_| {
            let reader = Rc::clone(&reader);
            spawn(move || {
                let (mut sum, mut count, mut buffer) = (0, 0, [0; 700]);
                while let got @ 1.. = (&*reader).read(&mut buffer).unwrap() {
                    count += got;
                    sum += buffer[..got].iter().map(|byte| u64::from(*byte)).sum::<u64>();
                }
                (count, sum)
            })
        })
        .collect();
    let all = consumers.into_iter().map(|consumer| consumer.join().unwrap());
    let (count, sum) = all.fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
    assert_eq!((count, sum), (SIZE, 4 * 1024 * (0..256).sum::<u64>()));
    producer.join().unwrap();
}

#[test]
fn limits_and_ends() {
    let (mut reader, mut writer) = pipe().unwrap();
    let limit = Duration::from_millis(5);
    reader.set_read_timeout(Some(limit)).unwrap();
    let start = Instant::now();
    let error = reader.read(&mut [0; 1]).unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string()),
        (ErrorKind::TimedOut, "Descriptor::read has timed out".into())
    );
    assert!(start.elapsed() >= limit);
    assert_eq!(
        reader.set_read_timeout(Some(Duration::ZERO)).unwrap_err().kind(),
        ErrorKind::InvalidInput
    );

    reader.set_read_timeout(None).unwrap();
    timeout(limit, || reader.read(&mut [0; 1])).unwrap_err();
    writer.write_all(b"x").unwrap();
    assert_eq!(reader.read(&mut [0; 8]).unwrap(), 1);
    drop(writer);
    assert_eq!(reader.read(&mut [0; 8]).unwrap(), 0);

    let (reader, mut writer) = pipe().unwrap();
    drop(reader);
    assert_eq!(writer.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
}

/// A reader of which the other end goes away, and one whose handle is closed.
#[test]
fn whoever_waits_learns_of_an_end() {
    let (reader, writer) = pipe().unwrap();
    let reader = Rc::new(reader);
    let read = |reader: &Rc<_>| {
        let reader: Rc<Descriptor<std::io::PipeReader>> = Rc::clone(reader);
        spawn(move || (&*reader).read(&mut [0; 1]).map_err(|error| error.raw_os_error()))
    };
    let waiting = read(&reader);
    yield_now();
    reader.close();
    assert_eq!(waiting.join().unwrap(), Err(Some(libc::EBADF)));
    assert_eq!(read(&reader).join().unwrap(), Err(Some(libc::EBADF)));
    drop((reader, writer));

    let (reader, writer) = pipe().unwrap();
    let waiting = read(&Rc::new(reader));
    yield_now();
    drop(writer);
    assert_eq!(waiting.join().unwrap(), Ok(0));
}

/// A regular file cannot be waited for, and says so.
#[test]
fn a_regular_file_is_refused() {
    let error = Descriptor::new(File::open("Cargo.toml").unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("use fs"), "{error}");
}

/// What does not block is that no more for its copies; back outside, it still does not block.
#[test]
fn calls_of_ones_own() {
    let (reader, writer) = pipe().unwrap();
    let waiting = spawn(move || reader.read_with(|mut inner| inner.read(&mut [0; 4])).unwrap());
    yield_now();
    assert_eq!(writer.write_with(|mut inner| inner.write(b"ab")).unwrap(), 2);
    assert_eq!(waiting.join().unwrap(), 2);
    let mut inner = writer.into_inner();
    while inner.write(&[0; 4096]).is_ok() {}
}

/// One that is borrowed cannot be closed (see `Descriptor::close`), and its end leaves the owner's as it was.
#[test]
fn a_borrowed_descriptor_stays_its_owners() {
    let (reader, writer) = std::io::pipe().unwrap();
    let borrowed = Descriptor::new(reader.as_fd()).unwrap();
    let also = Descriptor::new(&writer).unwrap();
    drop((borrowed, also));
    (&writer).write_all(b"hello").unwrap();
    let mut buffer = [0; 5];
    (&reader).read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"hello");
}

#[test]
fn an_owned_descriptor_is_closed_by_a_reference() {
    let (reader, writer) = std::io::pipe().unwrap();
    let owned = Descriptor::new(std::os::fd::OwnedFd::from(reader)).unwrap();
    owned.close();
    let error = (&writer).write_all(b"x").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
}
