//! Writes to standard error where nothing may allocate, lock or switch.

/// Writes `parts` to standard error, by system calls only. Text that cannot be written is lost.
pub(crate) fn write(parts: &[&str]) {
    for part in parts {
        let mut rest = part.as_bytes();
        while !rest.is_empty() {
            // SAFETY: the pointer and length are those of `rest`. By number: `libc::write` may be a hook.
            let written = unsafe {
                libc::syscall(libc::SYS_write, libc::STDERR_FILENO, rest.as_ptr(), rest.len())
            };
            match usize::try_from(written) {
                Ok(count @ 1..) => rest = &rest[count..],
                _ => return,
            }
        }
    }
}

/// A number as decimal digits, formatted without allocating.
pub(crate) struct Decimal {
    digits: [u8; 20],
    start: usize,
}

impl Decimal {
    pub(crate) fn new(mut number: u64) -> Self {
        let mut digits = [b'0'; 20];
        let mut start = digits.len();
        loop {
            start -= 1;
            digits[start] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return Decimal { digits, start };
            }
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.digits[self.start..]).unwrap_or("?")
    }
}

#[cfg(test)]
mod tests {
    use super::Decimal;

    #[test]
    fn decimal_digits_of_small_and_large_numbers() {
        assert_eq!(Decimal::new(0).as_str(), "0");
        assert_eq!(Decimal::new(262_144).as_str(), "262144");
        assert_eq!(Decimal::new(u64::MAX).as_str(), u64::MAX.to_string());
    }
}
