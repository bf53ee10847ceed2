// SPDX-License-Identifier: Apache-2.0
internal import ArgumentParser
internal import DirtyTracking

/// The words of `--tracker`.
struct TrackerArgument: ExpressibleByArgument, Hashable, Sendable {
    let choice: TrackerChoice

    init(_ choice: TrackerChoice) {
        self.choice = choice
    }

    init?(argument: String) {
        guard let choice = TrackerChoice(rawValue: argument) else { return nil }
        self.choice = choice
    }

    var defaultValueDescription: String { choice.rawValue }

    static let allValueStrings = TrackerChoice.allCases.map(\.rawValue)
}

extension TrackerStrategy {
    /// The word that asks for it.
    var word: String {
        switch self {
        case .writeProtectAsync: TrackerChoice.writeProtectAsync.rawValue
        case .writeProtectSync: TrackerChoice.writeProtectSync.rawValue
        case .softDirty: TrackerChoice.softDirty.rawValue
        case .none: TrackerChoice.none.rawValue
        }
    }
}
