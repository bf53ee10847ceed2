// SPDX-License-Identifier: Apache-2.0

/// Pages or a page map from the source that contradict what is known.
///
/// Installing them might show a thread a wrong page, so nothing of them has been entered into the books.
public struct LazyPagesError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What is wrong, for a program.
    public enum Code: Hashable, Sendable {
        /// Pages that are in no lazy mapping.
        case outsideOfLazyMemory
        /// The page map holds more pages than this program keeps books of.
        case mapTooLarge
        /// A piece of the page map after its last one.
        case mapAlreadyComplete
        /// A page is said to exist in one place and not to exist in another.
        case contradiction
    }

    /// What is wrong.
    public let code: Code
    /// Address and count of the pages, and what was said about them.
    public let message: String

    init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    /// One sentence.
    public var description: String {
        "the source sent wrong pages: " + message
    }
}
