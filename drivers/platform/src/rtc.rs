//! The battery-backed clock (MC146818), read once for CLOCK_REALTIME.

use x86_64::instructions::port::{Port, PortWriteOnly};

/// Seconds since 1970-01-01 UTC, as the clock says; 0 when it does not settle or holds no date.
pub fn unix_seconds() -> u64 {
    // Two equal readings in a row were not torn by an update; a clock that never settles is no clock.
    let mut last = None;
    for _ in 0..1000 {
        let now = (register(0xa) & 0x80 == 0).then(read_date).flatten();
        if now.is_some() && now == last {
            return now.unwrap_or(0);
        }
        last = now;
    }
    0
}

fn register(index: u8) -> u8 {
    // SAFETY: 0x70 selects a CMOS register (bit 7 clear: NMIs stay on), 0x71 reads it. Only this file uses
    // them, and one CPU runs.
    unsafe {
        PortWriteOnly::<u8>::new(0x70).write(index);
        Port::<u8>::new(0x71).read()
    }
}

fn read_date() -> Option<u64> {
    let binary = register(0xb) & 4 != 0;
    let number = |index| {
        let raw = register(index);
        u64::from(if binary { raw } else { (raw >> 4) * 10 + (raw & 0xf) })
    };
    let (second, minute, hour) = (number(0), number(2), number(4) & 0x7f);
    let (day, month, year) = (number(7), number(8), 2000 + number(9));
    let sane =
        second < 60 && minute < 60 && hour < 24 && (1..=31).contains(&day) && (1..=12).contains(&month);
    sane.then(|| days_since_1970(year, month, day) * 86400 + hour * 3600 + minute * 60 + second)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar; the year is counted from March, so that a leap
/// day is its last.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let leap_days = year / 4 - year / 100 + year / 400;
    365 * year + leap_days + (153 * month + 2) / 5 + (day - 1) - 719_468
}

#[cfg(test)]
mod tests {
    use super::days_since_1970;

    #[test]
    fn days_agree_with_known_dates() {
        assert_eq!(days_since_1970(1970, 1, 1), 0);
        assert_eq!(days_since_1970(2000, 2, 29), 11_016);
        assert_eq!(days_since_1970(2000, 3, 1), 11_017);
        assert_eq!(days_since_1970(2026, 11, 22), 20_779);
    }
}
