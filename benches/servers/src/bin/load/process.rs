//! What another process has used.

use std::fs;
use std::io;
use std::time::Duration;

pub(crate) struct Process(u32);

impl Process {
    pub(crate) fn new(id: u32) -> Self {
        Process(id)
    }

    /// Processor time of all its threads, in user space and in the kernel, to the nanosecond: what
    /// /proc/.../stat counts in ticks.
    pub(crate) fn processor_time(&self) -> io::Result<Duration> {
        let mut clock = 0;
        // SAFETY: room for a clock's number.
        let error = unsafe { libc::clock_getcpuclockid(self.0 as libc::pid_t, &mut clock) };
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: room for a time.
        if unsafe { libc::clock_gettime(clock, &mut time) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
    }

    /// The bytes of memory that it has.
    pub(crate) fn resident(&self) -> io::Result<u64> {
        // Not VmRSS of `status`, which is up to 64 pages a thread and kind too old.
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.0))?;
        let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:"));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        let bytes = kibibytes.map(|kibibytes| kibibytes * 1024);
        bytes.ok_or_else(|| io::Error::other("smaps_rollup does not say how much is resident"))
    }
}
