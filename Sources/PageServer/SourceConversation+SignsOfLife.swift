// SPDX-License-Identifier: Apache-2.0
internal import FrameTransport
internal import LinuxSystem
internal import PageWire

// A connection of which only this end is left brings no end of file. The destination asks every three seconds whether the source
// lives, and so shows that it does itself.
extension SourceConversation {
    /// How long a destination may say nothing: while its process runs, and while it lets the process go, which may wait for pages.
    private static let patience = (running: Duration.seconds(12), released: Duration.seconds(60))

    /// How long the destination may be silent now; nil when nothing is to be heard of it.
    private var silenceLimit: Duration? {
        guard loop.channel != nil, resumption == nil else { return nil }
        return switch commit.state {
        case .granted: Self.patience.released
        case .running: Self.patience.running
        case .waiting, .frozen, .recording, .completed, .ended: nil
        }
    }

    /// When the silence of the destination has lasted for too long.
    var silenceEnds: Deadline {
        guard let limit = silenceLimit else { return .never }
        return .after(limit - (MonotonicTime.now - loop.lastHeard))
    }

    /// Whether that is so.
    var isSilent: Bool {
        guard let limit = silenceLimit else { return false }
        return MonotonicTime.now - loop.lastHeard >= limit
    }
}
