// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem
internal import Logging
internal import Reporting

/// Writes log entries to standard error, one a line.
struct StandardErrorLogHandler: LogHandler {
    let format: OutputFormat
    var logLevel: Logger.Level
    var metadata = Logger.Metadata()
    /// The progress line that must not be torn; nil when there is none.
    let line: ProgressLine?

    init(format: OutputFormat, logLevel: Logger.Level, line: ProgressLine?) {
        self.format = format
        self.logLevel = logLevel
        self.line = line
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let merged = metadata.merging(event.metadata ?? [:]) { $1 }
        let now = WallTime.now
        let text = Self.entry(
            format: format,
            time: .seconds(now.seconds) + .nanoseconds(Int64(now.nanoseconds)),
            level: event.level,
            message: event.message.description,
            metadata: merged
        )
        if let line { line.writeAbove(text) } else { StandardStream.error.write(text) }
    }

    /// One entry with its line feed; metadata in the order of its keys.
    static func entry(
        format: OutputFormat,
        time: Duration,
        level: Logger.Level,
        message: String,
        metadata: Logger.Metadata
    ) -> String {
        let pairs = metadata.sorted { $0.key < $1.key }
        switch format {
        case .text:
            let data = pairs.map { " \($0.key)=\(quoted($0.value.description))" }.joined()
            return "\(Timestamp.text(time)) \(level.rawValue) \(message)\(data)\n"
        case .json:
            let data = pairs.map { JSON.Member($0.key, .text($0.value.description)) }
            let head = [
                JSON.Member("time", .seconds(time)),
                JSON.Member("level", .text(level.rawValue)),
                JSON.Member("message", .text(message)),
            ]
            return JSON.object(head + data).line + "\n"
        }
    }

    /// Values with blanks or control characters in quotes, so that a line can be cut at its blanks.
    private static func quoted(_ value: String) -> String {
        let isPlain = value.unicodeScalars.allSatisfy { $0.value > 0x20 && $0.value != 0x7F && $0 != "\"" }
        return isPlain && !value.isEmpty ? value : JSON.text(value).line
    }
}
