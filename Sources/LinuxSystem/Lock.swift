// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// A value that one thread at a time can touch.
///
/// Over `pthread_mutex_t`, because ThreadSanitizer takes `Synchronization.Mutex` for a race. What only keeps an order guards a number:
/// an access to a value of no size is taken for one to the object that has it.
@safe
public final class Lock<Value: ~Copyable>: @unchecked Sendable {
    // SAFETY of @unchecked Sendable: `value` is only touched between lock and unlock.
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private var value: Value

    /// Guards `value`, which nobody else may keep a reference to.
    public init(_ value: consuming sending Value) {
        // SAFETY: heap memory of its own, initialised once, destroyed in deinit.
        unsafe mutex = .allocate(capacity: 1)
        unsafe mutex.initialize(to: pthread_mutex_t())
        unsafe pthread_mutex_init(mutex, nil)
        self.value = value
    }

    deinit {
        // SAFETY: no thread holds a reference any more.
        unsafe pthread_mutex_destroy(mutex)
        unsafe mutex.deallocate()
    }

    /// Runs `body` while no other thread is inside; must not be called from within.
    public func withLock<Result, Failure: Error>(
        _ body: (inout Value) throws(Failure) -> sending Result
    ) throws(Failure) -> sending Result {
        // SAFETY: initialised in init.
        unsafe pthread_mutex_lock(mutex)
        defer { unsafe pthread_mutex_unlock(mutex) }
        return try body(&value)
    }
}
