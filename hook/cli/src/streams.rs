//! Standard input and output as the ends of a stream that may wait for others: whoever wants the work to stop does not wait
//! with it.

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::event::poll;
use rustix::io::Errno;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::time::Duration;
use std::time::Instant;

/// How long a wait goes on before it is asked whether it is still wanted, in nanoseconds.
const GLANCE: i64 = 50_000_000;

/// How much a pipe with room takes without waiting (pipe(7)).
const AT_ONCE: usize = 4096;

/// Waits until something can be read or written, or fails when `stop` says so.
fn wait(fd: BorrowedFd<'_>, flags: PollFlags, stop: &dyn Fn() -> bool) -> io::Result<()> {
    let glance = Timespec { tv_sec: 0, tv_nsec: GLANCE };
    loop {
        if stop() {
            // Not `ErrorKind::Interrupted`, after which one tries again.
            return Err(io::Error::other("it is not wanted any more"));
        }
        match poll(&mut [PollFd::new(&fd, flags)], Some(&glance)) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Whether standard output takes a short line without waiting.
pub(crate) fn takes_a_line() -> bool {
    let stdout = io::stdout();
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut [PollFd::new(&stdout, PollFlags::OUT)], Some(&at_once)), Ok(ready) if ready > 0)
}

/// Standard input.
pub(crate) fn input<'a>(stop: &'a dyn Fn() -> bool) -> impl Read + 'a {
    Input { stdin: io::stdin().lock(), stop }
}

/// Standard output.
pub(crate) fn output<'a>(stop: &'a dyn Fn() -> bool) -> impl Write + 'a {
    Output { stdout: io::stdout(), stop }
}

/// Writes all of `bytes` to standard output. `enough` is told for how long nothing has been taken, and says whether that is
/// too long.
pub(crate) fn tell(bytes: &[u8], enough: &dyn Fn(Duration) -> bool) -> io::Result<()> {
    tell_to(&io::stdout(), bytes, enough)
}

fn tell_to(out: &impl AsFd, mut bytes: &[u8], enough: &dyn Fn(Duration) -> bool) -> io::Result<()> {
    while !bytes.is_empty() {
        let since = Instant::now();
        let taken = Output { stdout: out, stop: &|| enough(since.elapsed()) }.write(bytes);
        match taken {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            taken => bytes = &bytes[taken?..],
        }
    }
    Ok(())
}

struct Input<'a, R> {
    stdin: R,
    stop: &'a dyn Fn() -> bool,
}

impl<R: Read + AsFd> Read for Input<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        wait(self.stdin.as_fd(), PollFlags::IN, self.stop)?;
        // Not through a buffer, of which the poll knows nothing.
        Ok(rustix::io::read(self.stdin.as_fd(), buffer)?)
    }
}

struct Output<'a, W> {
    stdout: W,
    stop: &'a dyn Fn() -> bool,
}

impl<W: AsFd> Write for Output<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        wait(self.stdout.as_fd(), PollFlags::OUT, self.stop)?;
        Ok(rustix::io::write(self.stdout.as_fd(), &bytes[..bytes.len().min(AT_ONCE)])?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Input;
    use super::Output;
    use super::tell_to;
    use std::cell::Cell;
    use std::cell::RefCell;
    use std::io::Read as _;
    use std::io::Write as _;
    use std::time::Duration;

    #[test]
    fn a_wait_ends_when_it_is_not_wanted() {
        let (reader, writer) = std::io::pipe().unwrap();
        let asked = Cell::new(0);
        let stop = || asked.replace(asked.get() + 1) > 1;
        let mut input = Input { stdin: reader, stop: &stop };
        assert_eq!(input.read(&mut [0; 8]).unwrap_err().to_string(), "it is not wanted any more");
        asked.set(0);
        let mut output = Output { stdout: writer, stop: &|| asked.replace(asked.get() + 1) > 20 };
        let error = output.write_all(&[0; 1 << 20]).unwrap_err();
        assert_eq!(error.to_string(), "it is not wanted any more", "the pipe is full");
    }

    #[test]
    fn a_reader_has_time_as_long_as_it_goes_on() {
        const READS: usize = 5;
        const CHUNK: usize = 4096;
        let (mut reader, writer) = std::io::pipe().unwrap();
        let is_full = RefCell::new(Vec::new());
        // Reads each time when nothing was taken for a while, and at last no more.
        let enough = |waited: Duration| {
            let mut is_full = is_full.borrow_mut();
            if waited < Duration::from_millis(20) {
                return false;
            }
            is_full.push(waited);
            if is_full.len() <= READS {
                reader.try_clone().unwrap().read_exact(&mut [0; CHUNK]).unwrap();
            }
            is_full.len() > READS
        };
        let error = tell_to(&writer, &[0; 1 << 20], &enough).unwrap_err();
        assert_eq!(error.to_string(), "it is not wanted any more");
        let waits = is_full.borrow();
        let together: Duration = waits.iter().sum();
        assert_eq!(waits.len(), READS + 1);
        assert!(waits.iter().all(|wait| *wait < together), "each is counted by itself: {waits:?}");
        drop(writer);
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).unwrap();
        assert!(rest.len() >= READS * CHUNK, "what was read made room");
    }

    #[test]
    fn what_is_written_is_read() {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut output = Output { stdout: writer, stop: &|| false };
        output.write_all(b"hello").unwrap();
        drop(output);
        let mut text = String::new();
        Input { stdin: reader, stop: &|| false }.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
    }
}
