#![forbid(unsafe_code)]
//! **The** table: one row per libc symbol that this crate defines.
//!
//! The columns:
//!
//! - the kinds of calls that patch the symbol;
//! - the callers that reach the hook (`tasks`: coroutines; `threads`: all threads, since the call changes
//!   state that they share; `always`: all threads, even before anything is patched);
//! - what a kill does to a call that waits;
//! - the symbol and its type;
//! - the hook.
//!
//! The table is expanded twice: by `originals.rs`, below the hooks, into libc's functions, and by
//! `exports.rs`, above them, into the symbols that the program calls.

/// Calls a macro with all rows.
macro_rules! for_each_row {
    ($expand:ident) => {
        $expand! {
    // kinds   callers  kill        symbol and type                                         hook
    Sleep   tasks   ReturnsEarly fn sleep(seconds: c_uint) -> c_uint => sleeping::sleep;
    Sleep   tasks   ReturnsEarly fn usleep(micros: c_uint) -> c_int => sleeping::usleep;
    Sleep   tasks   ReturnsEarly fn nanosleep(time: *const timespec, left: *mut timespec)
                        -> c_int => sleeping::nanosleep;
    Sleep   tasks   ReturnsEarly fn clock_nanosleep(clock: clockid_t, flags: c_int, time: *const timespec,
                        left: *mut timespec) -> c_int => sleeping::clock_nanosleep;
    Sleep   tasks   Deferred    fn sched_yield() -> c_int => sleeping::sched_yield;

    Sockets tasks   Fails       fn recv(fd: c_int, buffer: *mut c_void, length: size_t, flags: c_int)
                        -> ssize_t => receiving::recv;
    Sockets tasks   Fails       fn recvfrom(fd: c_int, buffer: *mut c_void, length: size_t, flags: c_int,
                        address: *mut sockaddr, room: *mut socklen_t) -> ssize_t => receiving::recvfrom;
    Sockets tasks   Fails       fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int)
                        -> ssize_t => receiving::recvmsg;
    Sockets tasks   Fails       fn recvmmsg(fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int,
                        time: *mut timespec) -> c_int => receiving::recvmmsg;
    Sockets tasks   Fails       fn send(fd: c_int, buffer: *const c_void, length: size_t, flags: c_int)
                        -> ssize_t => sending::send;
    Sockets tasks   Fails       fn sendto(fd: c_int, buffer: *const c_void, length: size_t, flags: c_int,
                        address: *const sockaddr, room: socklen_t) -> ssize_t => sending::sendto;
    Sockets tasks   Fails       fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int)
                        -> ssize_t => sending::sendmsg;
    Sockets tasks   Fails       fn sendmmsg(fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int)
                        -> c_int => sending::sendmmsg;
    Sockets tasks   Fails       fn accept(fd: c_int, address: *mut sockaddr, room: *mut socklen_t)
                        -> c_int => connecting::accept;
    Sockets tasks   Fails       fn accept4(fd: c_int, address: *mut sockaddr, room: *mut socklen_t,
                        flags: c_int) -> c_int => connecting::accept4;
    Sockets tasks   Fails       fn connect(fd: c_int, address: *const sockaddr, length: socklen_t)
                        -> c_int => connecting::connect;

    // On files, a kill is deferred.
    Sockets|Files tasks Fails   fn read(fd: c_int, buffer: *mut c_void, length: size_t)
                        -> ssize_t => reading::read;
    Sockets|Files tasks Fails   fn readv(fd: c_int, parts: *const iovec, count: c_int)
                        -> ssize_t => reading::readv;
    Sockets|Files tasks Fails   fn write(fd: c_int, buffer: *const c_void, length: size_t)
                        -> ssize_t => writing::write;
    Sockets|Files tasks Fails   fn writev(fd: c_int, parts: *const iovec, count: c_int)
                        -> ssize_t => writing::writev;

    // The variants with buffer sizes, called by C code compiled with _FORTIFY_SOURCE.
    Sockets tasks   Fails       fn __recv_chk(fd: c_int, buffer: *mut c_void, length: size_t, room: size_t,
                        flags: c_int) -> ssize_t => checked::recv;
    Sockets tasks   Fails       fn __recvfrom_chk(fd: c_int, buffer: *mut c_void, length: size_t,
                        room: size_t, flags: c_int, address: *mut sockaddr, address_room: *mut socklen_t)
                        -> ssize_t => checked::recvfrom;
    Sockets|Files tasks Fails   fn __read_chk(fd: c_int, buffer: *mut c_void, length: size_t, room: size_t)
                        -> ssize_t => checked::read;
    Files   tasks   Deferred    fn __pread_chk(fd: c_int, buffer: *mut c_void, length: size_t, offset: off_t,
                        room: size_t) -> ssize_t => checked::pread;
    Files   tasks   Deferred    fn __pread64_chk(fd: c_int, buffer: *mut c_void, length: size_t,
                        offset: off64_t, room: size_t) -> ssize_t => checked::pread64;
    Poll    tasks   Fails       fn __poll_chk(all: *mut pollfd, count: nfds_t, millis: c_int, room: size_t)
                        -> c_int => checked::poll;
    Poll    tasks   Fails       fn __ppoll_chk(all: *mut pollfd, count: nfds_t, time: *const timespec,
                        mask: *const sigset_t, room: size_t) -> c_int => checked::ppoll;

    // Data in the page cache is read at once. Without an offset, `preadv2` and `pwritev2` are `readv` and
    // `writev` with flags.
    Files   tasks   Deferred    fn pread(fd: c_int, buffer: *mut c_void, length: size_t, offset: off_t)
                        -> ssize_t => files::pread;
    Files   tasks   Deferred    fn pread64(fd: c_int, buffer: *mut c_void, length: size_t, offset: off64_t)
                        -> ssize_t => files::pread64;
    Files   tasks   Deferred    fn preadv(fd: c_int, parts: *const iovec, count: c_int, offset: off_t)
                        -> ssize_t => files::preadv;
    Files   tasks   Deferred    fn preadv64(fd: c_int, parts: *const iovec, count: c_int, offset: off64_t)
                        -> ssize_t => files::preadv64;
    Sockets|Files tasks Fails   fn preadv2(fd: c_int, parts: *const iovec, count: c_int, offset: off_t,
                        flags: c_int) -> ssize_t => positioned::preadv2;
    Sockets|Files tasks Fails   fn preadv64v2(fd: c_int, parts: *const iovec, count: c_int, offset: off64_t,
                        flags: c_int) -> ssize_t => positioned::preadv64v2;
    Files   tasks   Deferred    fn pwrite(fd: c_int, buffer: *const c_void, length: size_t, offset: off_t)
                        -> ssize_t => files::pwrite;
    Files   tasks   Deferred    fn pwrite64(fd: c_int, buffer: *const c_void, length: size_t, offset: off64_t)
                        -> ssize_t => files::pwrite64;
    Files   tasks   Deferred    fn pwritev(fd: c_int, parts: *const iovec, count: c_int, offset: off_t)
                        -> ssize_t => files::pwritev;
    Files   tasks   Deferred    fn pwritev64(fd: c_int, parts: *const iovec, count: c_int, offset: off64_t)
                        -> ssize_t => files::pwritev64;
    Sockets|Files tasks Fails   fn pwritev2(fd: c_int, parts: *const iovec, count: c_int, offset: off_t,
                        flags: c_int) -> ssize_t => positioned::pwritev2;
    Sockets|Files tasks Fails   fn pwritev64v2(fd: c_int, parts: *const iovec, count: c_int, offset: off64_t,
                        flags: c_int) -> ssize_t => positioned::pwritev64v2;
    Files   tasks   Deferred    fn fsync(fd: c_int) -> c_int => files::fsync;
    Files   tasks   Deferred    fn fdatasync(fd: c_int) -> c_int => files::fdatasync;
    Files   tasks   Deferred    fn syncfs(fd: c_int) -> c_int => files::syncfs;
    Files   tasks   Deferred    fn sync_file_range(fd: c_int, offset: off64_t, length: off64_t, flags: c_uint)
                        -> c_int => files::sync_file_range;
    Files   tasks   Deferred    fn msync(place: *mut c_void, length: size_t, flags: c_int)
                        -> c_int => files::msync;
    Files   tasks   Deferred    fn flock(fd: c_int, operation: c_int) -> c_int => locks::flock;
    Files   tasks   Deferred    fn lockf(fd: c_int, command: c_int, length: off_t)
                        -> c_int => locks::lockf;
    Files   tasks   Deferred    fn lockf64(fd: c_int, command: c_int, length: off64_t)
                        -> c_int => locks::lockf64;

    // Reads of C streams whose descriptors can be waited for.
    Sockets tasks   Fails       fn fgetc(file: *mut FILE) -> c_int => stdio::fgetc;
    Sockets tasks   Fails       fn getc(file: *mut FILE) -> c_int => stdio::getc;
    Sockets tasks   Fails       fn getchar() -> c_int => stdio::getchar;
    Sockets tasks   Fails       fn fgets(place: *mut c_char, room: c_int, file: *mut FILE)
                        -> *mut c_char => stdio::fgets;
    Sockets tasks   Fails       fn __fgets_chk(place: *mut c_char, known: size_t, room: c_int,
                        file: *mut FILE) -> *mut c_char => stdio::__fgets_chk;
    Sockets tasks   Fails       fn fread(place: *mut c_void, size: size_t, count: size_t, file: *mut FILE)
                        -> size_t => stdio::fread;
    Sockets tasks   Fails       fn __fread_chk(place: *mut c_void, known: size_t, size: size_t,
                        count: size_t, file: *mut FILE) -> size_t => stdio::__fread_chk;
    Sockets tasks   Fails       fn fgetc_unlocked(file: *mut FILE) -> c_int => stdio::fgetc;
    Sockets tasks   Fails       fn getc_unlocked(file: *mut FILE) -> c_int => stdio::getc;
    Sockets tasks   Fails       fn getchar_unlocked() -> c_int => stdio::getchar;
    Sockets tasks   Fails       fn fgets_unlocked(place: *mut c_char, room: c_int, file: *mut FILE)
                        -> *mut c_char => stdio::fgets;
    Sockets tasks   Fails       fn __fgets_unlocked_chk(place: *mut c_char, known: size_t, room: c_int,
                        file: *mut FILE) -> *mut c_char => stdio::__fgets_chk;
    Sockets tasks   Fails       fn fread_unlocked(place: *mut c_void, size: size_t, count: size_t,
                        file: *mut FILE) -> size_t => stdio::fread;
    Sockets tasks   Fails       fn __fread_unlocked_chk(place: *mut c_void, known: size_t, size: size_t,
                        count: size_t, file: *mut FILE) -> size_t => stdio::__fread_chk;
    // Called by `getc_unlocked` for an empty buffer, where it is a macro.
    Sockets tasks   Fails       fn __uflow(file: *mut FILE) -> c_int => stdio::__uflow;
    Sockets tasks   Fails       fn getline(line: *mut *mut c_char, room: *mut size_t, file: *mut FILE)
                        -> ssize_t => stdio::getline;
    Sockets tasks   Fails       fn getdelim(line: *mut *mut c_char, room: *mut size_t, end: c_int,
                        file: *mut FILE) -> ssize_t => stdio::getdelim;

    // Message queues.
    Sockets tasks   Fails       fn mq_receive(queue: mqd_t, buffer: *mut c_char, room: size_t,
                        priority: *mut c_uint) -> ssize_t => queues::mq_receive;
    Sockets tasks   Fails       fn mq_timedreceive(queue: mqd_t, buffer: *mut c_char, room: size_t,
                        priority: *mut c_uint, until: *const timespec) -> ssize_t => queues::mq_timedreceive;
    Sockets tasks   Fails       fn mq_send(queue: mqd_t, message: *const c_char, length: size_t,
                        priority: c_uint) -> c_int => queues::mq_send;
    Sockets tasks   Fails       fn mq_timedsend(queue: mqd_t, message: *const c_char, length: size_t,
                        priority: c_uint, until: *const timespec) -> c_int => queues::mq_timedsend;
    Sockets threads NeverWaits  fn mq_close(queue: mqd_t) -> c_int => queues::mq_close;
    Sockets tasks   Fails       fn msgrcv(queue: c_int, place: *mut c_void, room: size_t, kind: c_long,
                        flags: c_int) -> ssize_t => queues::msgrcv;
    Sockets tasks   Fails       fn msgsnd(queue: c_int, message: *const c_void, length: size_t, flags: c_int)
                        -> c_int => queues::msgsnd;

    Sockets|Files tasks Fails   fn sendfile(to: c_int, from: c_int, offset: *mut off_t, count: size_t)
                        -> ssize_t => sending_files::sendfile;
    Sockets|Files tasks Fails   fn sendfile64(to: c_int, from: c_int, offset: *mut off64_t, count: size_t)
                        -> ssize_t => sending_files::sendfile64;
    Sockets|Files tasks Fails   fn splice(from: c_int, from_offset: *mut off64_t, to: c_int,
                        to_offset: *mut off64_t, length: size_t, flags: c_uint) -> ssize_t => copying::splice;
    Sockets tasks   Fails       fn tee(from: c_int, to: c_int, length: size_t, flags: c_uint)
                        -> ssize_t => copying::tee;
    Sockets tasks   Fails       fn vmsplice(fd: c_int, parts: *const iovec, count: size_t, flags: c_uint)
                        -> ssize_t => copying::vmsplice;
    Files   tasks   Deferred    fn copy_file_range(from: c_int, from_offset: *mut off64_t, to: c_int,
                        to_offset: *mut off64_t, length: size_t, flags: c_uint)
                        -> ssize_t => sending_files::copy_file_range;

    // Waits only for a FIFO.
    Sockets tasks   Fails       fn open(path: *const c_char, flags: c_int, mode: mode_t)
                        -> c_int => opening::open;
    Sockets tasks   Fails       fn open64(path: *const c_char, flags: c_int, mode: mode_t)
                        -> c_int => opening::open64;
    Sockets tasks   Fails       fn openat(folder: c_int, path: *const c_char, flags: c_int, mode: mode_t)
                        -> c_int => opening::openat;
    Sockets tasks   Fails       fn openat64(folder: c_int, path: *const c_char, flags: c_int, mode: mode_t)
                        -> c_int => opening::openat64;
    Sockets tasks   Fails       fn creat(path: *const c_char, mode: mode_t) -> c_int => opening::creat;
    Sockets tasks   Fails       fn creat64(path: *const c_char, mode: mode_t) -> c_int => opening::creat64;
    Sockets tasks   Fails       fn __open_2(path: *const c_char, flags: c_int) -> c_int => opening::__open_2;
    Sockets tasks   Fails       fn __open64_2(path: *const c_char, flags: c_int)
                        -> c_int => opening::__open64_2;
    Sockets tasks   Fails       fn __openat_2(folder: c_int, path: *const c_char, flags: c_int)
                        -> c_int => opening::__openat_2;
    Sockets tasks   Fails       fn __openat64_2(folder: c_int, path: *const c_char, flags: c_int)
                        -> c_int => opening::__openat64_2;
    Sockets tasks   Fails       fn fopen(path: *const c_char, mode: *const c_char)
                        -> *mut FILE => opening::fopen;
    Sockets tasks   Fails       fn fopen64(path: *const c_char, mode: *const c_char)
                        -> *mut FILE => opening::fopen64;
    Sockets threads Fails       fn freopen(path: *const c_char, mode: *const c_char, file: *mut FILE)
                        -> *mut FILE => opening::freopen;
    Sockets threads Fails       fn freopen64(path: *const c_char, mode: *const c_char, file: *mut FILE)
                        -> *mut FILE => opening::freopen64;

    // A close waits only for a socket with `SO_LINGER`.
    Sockets|Files threads Deferred fn close(fd: c_int) -> c_int => closing::close;
    Sockets|Files threads Deferred fn close_range(first: c_uint, last: c_uint, flags: c_int)
                        -> c_int => closing::close_range;
    Sockets|Files threads Deferred fn closefrom(first: c_int) -> () => closing::closefrom;
    Sockets|Files threads Deferred fn fclose(file: *mut FILE) -> c_int => closing::fclose;
    Sockets|Files|Process threads Deferred fn pclose(file: *mut FILE) -> c_int => children::pclose;
    Sockets|Files threads NeverWaits fn dup(fd: c_int) -> c_int => closing::dup;
    Sockets|Files threads Deferred fn dup2(from: c_int, to: c_int) -> c_int => closing::dup2;
    Sockets|Files threads Deferred fn dup3(from: c_int, to: c_int, flags: c_int) -> c_int => closing::dup3;
    // Only the commands that wait for a lock.
    Sockets|Files threads Deferred fn fcntl(fd: c_int, command: c_int, argument: usize)
                        -> c_int => closing::fcntl;
    Sockets|Files threads Deferred fn fcntl64(fd: c_int, command: c_int, argument: usize)
                        -> c_int => closing::fcntl;
    Sockets threads NeverWaits  fn ioctl(fd: c_int, request: c_ulong, argument: usize)
                        -> c_int => closing::ioctl;
    Sockets threads NeverWaits  fn shutdown(fd: c_int, how: c_int) -> c_int => connecting::shutdown;
    Sockets threads NeverWaits  fn setsockopt(fd: c_int, level: c_int, name: c_int, value: *const c_void,
                        length: socklen_t) -> c_int => sending::setsockopt;

    Sync    threads Deferred    fn syscall(number: c_long, a: usize, b: usize, c: usize, d: usize, e: usize,
                        f: usize) -> c_long => futexes::syscall;
    Sync    tasks   Deferred    fn pthread_join(of: pthread_t, result: *mut *mut c_void)
                        -> c_int => joining::pthread_join;
    Sync    tasks   Deferred    fn pthread_timedjoin_np(of: pthread_t, result: *mut *mut c_void,
                        until: *const timespec) -> c_int => joining::pthread_timedjoin_np;
    Sync    tasks   Deferred    fn pthread_clockjoin_np(of: pthread_t, result: *mut *mut c_void,
                        clock: clockid_t, until: *const timespec) -> c_int => joining::pthread_clockjoin_np;

    // Locks belong to coroutines rather than threads, so calls of the hub's own greenlet reach the hook, too.
    Sync    threads Deferred    fn pthread_mutex_lock(mutex: *mut pthread_mutex_t)
                        -> c_int => mutexes::pthread_mutex_lock;
    Sync    threads Deferred    fn pthread_mutex_timedlock(mutex: *mut pthread_mutex_t,
                        until: *const timespec) -> c_int => mutexes::pthread_mutex_timedlock;
    Sync    threads Deferred    fn pthread_mutex_clocklock(mutex: *mut pthread_mutex_t, clock: clockid_t,
                        until: *const timespec) -> c_int => mutexes::pthread_mutex_clocklock;
    Sync    threads NeverWaits  fn pthread_mutex_trylock(mutex: *mut pthread_mutex_t)
                        -> c_int => mutexes::pthread_mutex_trylock;
    Sync    threads NeverWaits  fn pthread_mutex_unlock(mutex: *mut pthread_mutex_t)
                        -> c_int => mutexes::pthread_mutex_unlock;
    Sync    threads NeverWaits  fn pthread_mutex_destroy(mutex: *mut pthread_mutex_t)
                        -> c_int => mutexes::pthread_mutex_destroy;
    Sync    threads Deferred    fn pthread_cond_wait(condition: *mut pthread_cond_t,
                        mutex: *mut pthread_mutex_t) -> c_int => conditions::pthread_cond_wait;
    Sync    threads Deferred    fn pthread_cond_timedwait(condition: *mut pthread_cond_t,
                        mutex: *mut pthread_mutex_t, until: *const timespec)
                        -> c_int => conditions::pthread_cond_timedwait;
    Sync    threads Deferred    fn pthread_cond_clockwait(condition: *mut pthread_cond_t,
                        mutex: *mut pthread_mutex_t, clock: clockid_t, until: *const timespec)
                        -> c_int => conditions::pthread_cond_clockwait;
    Sync    threads NeverWaits  fn pthread_cond_signal(condition: *mut pthread_cond_t)
                        -> c_int => conditions::pthread_cond_signal;
    Sync    threads NeverWaits  fn pthread_cond_broadcast(condition: *mut pthread_cond_t)
                        -> c_int => conditions::pthread_cond_broadcast;
    Sync    tasks   Fails       fn semop(set: c_int, all: *mut sembuf, count: size_t)
                        -> c_int => semaphore_sets::semop;
    Sync    tasks   Fails       fn semtimedop(set: c_int, all: *mut sembuf, count: size_t,
                        time: *const timespec) -> c_int => semaphore_sets::semtimedop;
    Sync    threads Deferred    fn pthread_rwlock_rdlock(at: *mut pthread_rwlock_t)
                        -> c_int => rwlocks::pthread_rwlock_rdlock;
    Sync    threads Deferred    fn pthread_rwlock_timedrdlock(at: *mut pthread_rwlock_t,
                        until: *const timespec) -> c_int => rwlocks::pthread_rwlock_timedrdlock;
    Sync    threads Deferred    fn pthread_rwlock_clockrdlock(at: *mut pthread_rwlock_t, clock: clockid_t,
                        until: *const timespec) -> c_int => rwlocks::pthread_rwlock_clockrdlock;
    Sync    threads NeverWaits  fn pthread_rwlock_tryrdlock(at: *mut pthread_rwlock_t)
                        -> c_int => rwlocks::pthread_rwlock_tryrdlock;
    Sync    threads Deferred    fn pthread_rwlock_wrlock(at: *mut pthread_rwlock_t)
                        -> c_int => rwlocks::pthread_rwlock_wrlock;
    Sync    threads Deferred    fn pthread_rwlock_timedwrlock(at: *mut pthread_rwlock_t,
                        until: *const timespec) -> c_int => rwlocks::pthread_rwlock_timedwrlock;
    Sync    threads Deferred    fn pthread_rwlock_clockwrlock(at: *mut pthread_rwlock_t, clock: clockid_t,
                        until: *const timespec) -> c_int => rwlocks::pthread_rwlock_clockwrlock;
    Sync    threads NeverWaits  fn pthread_rwlock_trywrlock(at: *mut pthread_rwlock_t)
                        -> c_int => rwlocks::pthread_rwlock_trywrlock;
    Sync    threads NeverWaits  fn pthread_rwlock_unlock(at: *mut pthread_rwlock_t)
                        -> c_int => rwlocks::pthread_rwlock_unlock;
    Sync    threads NeverWaits  fn pthread_rwlock_destroy(at: *mut pthread_rwlock_t)
                        -> c_int => rwlocks::pthread_rwlock_destroy;
    Sync    threads Deferred    fn pthread_spin_lock(lock: *mut pthread_spinlock_t)
                        -> c_int => spinlocks::pthread_spin_lock;
    Sync    threads NeverWaits  fn pthread_spin_trylock(lock: *mut pthread_spinlock_t)
                        -> c_int => spinlocks::pthread_spin_trylock;
    Sync    threads NeverWaits  fn pthread_spin_unlock(lock: *mut pthread_spinlock_t)
                        -> c_int => spinlocks::pthread_spin_unlock;
    Sync    threads NeverWaits  fn pthread_spin_destroy(lock: *mut pthread_spinlock_t)
                        -> c_int => spinlocks::pthread_spin_destroy;
    Sync    tasks   Deferred    fn pthread_barrier_wait(barrier: *mut pthread_barrier_t)
                        -> c_int => barriers::pthread_barrier_wait;
    Sync    tasks   Deferred    fn sem_wait(semaphore: *mut sem_t) -> c_int => semaphores::sem_wait;
    Sync    tasks   Deferred    fn sem_timedwait(semaphore: *mut sem_t, until: *const timespec)
                        -> c_int => semaphores::sem_timedwait;
    Sync    tasks   Deferred    fn sem_clockwait(semaphore: *mut sem_t, clock: clockid_t,
                        until: *const timespec) -> c_int => semaphores::sem_clockwait;
    Sync    threads Deferred    fn flockfile(file: *mut FILE) -> () => file_locks::flockfile;
    Sync    threads NeverWaits  fn ftrylockfile(file: *mut FILE) -> c_int => file_locks::ftrylockfile;
    Sync    threads NeverWaits  fn funlockfile(file: *mut FILE) -> () => file_locks::funlockfile;

    // The C11 functions, which call the others inside libc. Their types are aliases of those of POSIX.
    Sync    threads Deferred    fn mtx_lock(mutex: *mut pthread_mutex_t) -> c_int => c11::mtx_lock;
    Sync    threads Deferred    fn mtx_timedlock(mutex: *mut pthread_mutex_t, until: *const timespec)
                        -> c_int => c11::mtx_timedlock;
    Sync    threads NeverWaits  fn mtx_trylock(mutex: *mut pthread_mutex_t) -> c_int => c11::mtx_trylock;
    Sync    threads NeverWaits  fn mtx_unlock(mutex: *mut pthread_mutex_t) -> c_int => c11::mtx_unlock;
    Sync    threads NeverWaits  fn mtx_destroy(mutex: *mut pthread_mutex_t) -> () => c11::mtx_destroy;
    Sync    threads Deferred    fn cnd_wait(condition: *mut pthread_cond_t, mutex: *mut pthread_mutex_t)
                        -> c_int => c11::cnd_wait;
    Sync    threads Deferred    fn cnd_timedwait(condition: *mut pthread_cond_t, mutex: *mut pthread_mutex_t,
                        until: *const timespec) -> c_int => c11::cnd_timedwait;
    Sync    threads NeverWaits  fn cnd_signal(condition: *mut pthread_cond_t) -> c_int => c11::cnd_signal;
    Sync    threads NeverWaits  fn cnd_broadcast(condition: *mut pthread_cond_t)
                        -> c_int => c11::cnd_broadcast;
    Sync    tasks   Deferred    fn thrd_join(of: pthread_t, status: *mut c_int) -> c_int => c11::thrd_join;
    Sleep   tasks   ReturnsEarly fn thrd_sleep(time: *const timespec, left: *mut timespec)
                        -> c_int => c11::thrd_sleep;
    Sleep   tasks   Deferred    fn thrd_yield() -> () => c11::thrd_yield;

    Poll    tasks   Fails       fn poll(all: *mut pollfd, count: nfds_t, millis: c_int)
                        -> c_int => polling::poll;
    Poll    tasks   Fails       fn ppoll(all: *mut pollfd, count: nfds_t, time: *const timespec,
                        mask: *const sigset_t) -> c_int => polling::ppoll;
    Poll    tasks   Fails       fn select(count: c_int, read: *mut fd_set, write: *mut fd_set,
                        except: *mut fd_set, time: *mut timeval) -> c_int => selecting::select;
    Poll    tasks   Fails       fn pselect(count: c_int, read: *mut fd_set, write: *mut fd_set,
                        except: *mut fd_set, time: *const timespec, mask: *const sigset_t)
                        -> c_int => selecting::pselect;
    Poll    tasks   Fails       fn epoll_wait(fd: c_int, events: *mut epoll_event, room: c_int, millis: c_int)
                        -> c_int => epoll::epoll_wait;
    Poll    tasks   Fails       fn epoll_pwait(fd: c_int, events: *mut epoll_event, room: c_int,
                        millis: c_int, mask: *const sigset_t) -> c_int => epoll::epoll_pwait;
    Poll    tasks   Fails       fn epoll_pwait2(fd: c_int, events: *mut epoll_event, room: c_int,
                        time: *const timespec, mask: *const sigset_t) -> c_int => epoll::epoll_pwait2;

    Dns     tasks   Fails       fn getaddrinfo(node: *const c_char, service: *const c_char,
                        hints: *const addrinfo, result: *mut *mut addrinfo) -> c_int => dns::getaddrinfo;
    Dns     tasks   Deferred    fn getnameinfo(address: *const sockaddr, length: socklen_t, host: *mut c_char,
                        host_room: socklen_t, service: *mut c_char, service_room: socklen_t, flags: c_int)
                        -> c_int => dns::getnameinfo;
    Dns     tasks   Fails       fn gethostbyname(name: *const c_char) -> *mut hostent => dns::gethostbyname;
    Dns     tasks   Fails       fn gethostbyname2(name: *const c_char, family: c_int)
                        -> *mut hostent => dns::gethostbyname2;
    Dns     tasks   Fails       fn gethostbyaddr(address: *const c_void, length: socklen_t, family: c_int)
                        -> *mut hostent => dns::gethostbyaddr;
    Dns     tasks   Deferred    fn gethostbyname_r(name: *const c_char, place: *mut hostent,
                        buffer: *mut c_char, room: size_t, result: *mut *mut hostent, error: *mut c_int)
                        -> c_int => dns::gethostbyname_r;
    Dns     tasks   Deferred    fn gethostbyname2_r(name: *const c_char, family: c_int, place: *mut hostent,
                        buffer: *mut c_char, room: size_t, result: *mut *mut hostent, error: *mut c_int)
                        -> c_int => dns::gethostbyname2_r;
    Dns     tasks   Deferred    fn gethostbyaddr_r(address: *const c_void, length: socklen_t, family: c_int,
                        place: *mut hostent, buffer: *mut c_char, room: size_t, result: *mut *mut hostent,
                        error: *mut c_int) -> c_int => dns::gethostbyaddr_r;

    // Signal handlers are wrapped, so that their runs are counted.
    Signals always  NeverWaits  fn sigaction(signal: c_int, action: *const Action, old: *mut Action)
                        -> c_int => actions::sigaction;
    Signals always  NeverWaits  fn __sigaction(signal: c_int, action: *const Action, old: *mut Action)
                        -> c_int => actions::sigaction;
    Signals always  NeverWaits  fn signal(signal: c_int, handler: sighandler_t)
                        -> sighandler_t => actions::signal;
    Signals always  NeverWaits  fn bsd_signal(signal: c_int, handler: sighandler_t)
                        -> sighandler_t => actions::bsd_signal;
    Signals always  NeverWaits  fn ssignal(signal: c_int, handler: sighandler_t)
                        -> sighandler_t => actions::ssignal;
    Signals always  NeverWaits  fn sysv_signal(signal: c_int, handler: sighandler_t)
                        -> sighandler_t => actions::sysv_signal;
    Signals always  NeverWaits  fn __sysv_signal(signal: c_int, handler: sighandler_t)
                        -> sighandler_t => actions::__sysv_signal;
    Signals always  NeverWaits  fn sigset(signal: c_int, handler: sighandler_t)
                        -> sighandler_t => actions::sigset;
    Signals always  NeverWaits  fn siginterrupt(signal: c_int, flag: c_int)
                        -> c_int => actions::siginterrupt;

    Signals tasks   Fails       fn pause() -> c_int => signals::pause;
    Signals tasks   Fails       fn sigsuspend(mask: *const sigset_t) -> c_int => signals::sigsuspend;
    Signals tasks   Fails       fn sigpause(which: c_int) -> c_int => signals::sigpause;
    Signals tasks   Fails       fn __xpg_sigpause(signal: c_int) -> c_int => signals::__xpg_sigpause;
    Signals tasks   Fails       fn sigwait(set: *const sigset_t, signal: *mut c_int)
                        -> c_int => signals::sigwait;
    Signals tasks   Fails       fn sigwaitinfo(set: *const sigset_t, info: *mut siginfo_t)
                        -> c_int => signals::sigwaitinfo;
    Signals tasks   Fails       fn sigtimedwait(set: *const sigset_t, info: *mut siginfo_t,
                        time: *const timespec) -> c_int => signals::sigtimedwait;

    Process tasks   Fails       fn wait(status: *mut c_int) -> pid_t => children::wait;
    Process tasks   Fails       fn waitpid(pid: pid_t, status: *mut c_int, options: c_int)
                        -> pid_t => children::waitpid;
    Process tasks   Fails       fn wait3(status: *mut c_int, options: c_int, usage: *mut rusage)
                        -> pid_t => children::wait3;
    Process tasks   Fails       fn wait4(pid: pid_t, status: *mut c_int, options: c_int, usage: *mut rusage)
                        -> pid_t => children::wait4;
    Process tasks   Fails       fn waitid(kind: idtype_t, id: id_t, about: *mut siginfo_t, options: c_int)
                        -> c_int => children::waitid;
    Process tasks   Deferred    fn system(command: *const c_char) -> c_int => children::system;

    // Wait until a terminal has sent its output.
    Sockets tasks   Fails       fn tcdrain(fd: c_int) -> c_int => terminals::tcdrain;
    Sockets tasks   Fails       fn tcsendbreak(fd: c_int, duration: c_int) -> c_int => terminals::tcsendbreak;
    Sockets tasks   Fails       fn tcsetattr(fd: c_int, when: c_int, to: *const termios)
                        -> c_int => terminals::tcsetattr;
        }
    };
}
pub(super) use for_each_row;
