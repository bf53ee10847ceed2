// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc

/// A thread of the operating system with a name that `top -H` shows.
///
/// It starts with the signal mask of the thread that creates it. A value that is dropped without ``join()`` lets the thread run on by
/// itself.
public struct NamedThread: ~Copyable, Sendable {
    private let handle: pthread_t

    /// What a new thread needs before its own stack frames exist.
    private final class Start {
        let name: String
        let urgency: ThreadUrgency
        let body: () -> Void

        init(name: String, urgency: ThreadUrgency, body: @escaping () -> Void) {
            self.name = name
            self.urgency = urgency
            self.body = body
        }
    }

    /// Starts a thread.
    ///
    /// - Parameters:
    ///   - name: the kernel keeps the first 15 bytes.
    ///   - urgency: how soon it has to run when it has something to do.
    ///   - body: runs on the new thread; what it captures must not be used elsewhere unless it is `Sendable`.
    /// - Throws: ``SystemCallError`` with `EAGAIN` when there is no room for another thread.
    ///
    /// The corresponding call is `pthread_create`.
    public init(
        _ name: String,
        urgency: ThreadUrgency = .usual,
        _ body: sending @escaping () -> Void
    ) throws(SystemCallError) {
        let start = Start(name: name, urgency: urgency, body: body)
        // SAFETY: the retained reference is released by the new thread, or below when there is none.
        let argument = unsafe Unmanaged.passRetained(start)
        var handle = pthread_t()
        // SAFETY: `handle` outlives the call; the start routine gets exactly the reference that it releases.
        let result = unsafe pthread_create(
            &handle,
            nil,
            { argument in
                guard let argument = unsafe argument else { return nil }
                // SAFETY: the reference retained above.
                let start = unsafe Unmanaged<Start>.fromOpaque(argument).takeRetainedValue()
                // SAFETY: the bridged string is NUL-terminated and lives during the call.
                _ = unsafe clinux_set_thread_name(start.name)
                start.urgency.applyToCurrentThread()
                start.body()
                return nil
            },
            argument.toOpaque()
        )
        guard result == 0 else {
            unsafe argument.release()
            throw SystemCallError("pthread_create", Errno(rawValue: result), operand: "thread \(name)")
        }
        self.handle = handle
    }

    deinit {
        pthread_detach(handle)
    }

    /// Waits until the thread's body has returned.
    public consuming func join() {
        let handle = handle
        discard self
        pthread_join(handle, nil)
    }

    /// Lets the thread run on by itself.
    public consuming func detach() {}

    /// The kernel's id of the calling thread.
    public static var currentID: Int32 {
        clinux_gettid()
    }
}
