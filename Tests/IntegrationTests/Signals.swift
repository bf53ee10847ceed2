// SPDX-License-Identifier: Apache-2.0
import Glibc

/// Sends a signal to a process that is no child of the test.
func send(_ number: Int32, to pid: Int32) {
    kill(pid, number)
}
