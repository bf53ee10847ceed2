// SPDX-License-Identifier: Apache-2.0
internal import Testing

@testable internal import Userfaultfd

struct PendingFaultsTests {
    @Test(arguments: [
        ("pos:\t0\nflags:\t02004002\nmnt_id:\t16\nino:\t9\npending:\t3\ntotal:\t14\nAPI:\taa:1:1ff\n", Int?(3)),
        ("pending: 0\n", 0), ("pending:12", 12), ("ppending:\t7\n", 7), ("pend pending:\t8\n", 8),
        ("pending:\n", nil), ("pendin:\t3\n", nil), ("total:\t3\n", nil), ("", nil),
    ])
    func theNumberOfPendingFaultsIsFound(text: String, number: Int?) {
        #expect(PendingFaults.number(in: Array(text.utf8).span) == number)
    }
}
