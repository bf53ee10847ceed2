// SPDX-License-Identifier: Apache-2.0

/// A moment in words for people and log collectors.
enum Timestamp {
    /// RFC 3339 in UTC with milliseconds: `2026-01-31T23:59:59.123Z`.
    ///
    /// - Parameter moment: time since 1970-01-01 00:00 UTC.
    static func text(_ moment: Duration) -> String {
        let (seconds, attoseconds) = moment.components
        // Euclidean, so that moments before the epoch come out right as well.
        var (milliseconds, whole) = (attoseconds / 1_000_000_000_000_000, seconds)
        if milliseconds < 0 { (milliseconds, whole) = (milliseconds + 1000, whole - 1) }
        let days = (whole >= 0 ? whole : whole - 86_399) / 86_400
        let second = whole - days * 86_400
        let time = [second / 3_600, second / 60 % 60, second % 60].map { digits($0, 2) }.joined(separator: ":")
        return "\(date(days))T\(time).\(digits(milliseconds, 3))Z"
    }

    /// The Gregorian date of a day since the epoch.
    ///
    /// Years begin in March here, so that the leap day is the last of its year.
    private static func date(_ days: Int64) -> String {
        let shifted = days + 719_468
        let era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
        let dayOfEra = shifted - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1_460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shiftedMonth = (5 * dayOfYear + 2) / 153
        let day = dayOfYear - (153 * shiftedMonth + 2) / 5 + 1
        let month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
        let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
        return "\(digits(year, 4))-\(digits(month, 2))-\(digits(day, 2))"
    }

    private static func digits(_ number: Int64, _ count: Int) -> String {
        let text = String(number)
        return String(repeating: "0", count: max(0, count - text.count)) + text
    }
}
