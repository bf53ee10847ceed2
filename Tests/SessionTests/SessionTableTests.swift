import Testing

// SPDX-License-Identifier: Apache-2.0
@testable import PageServer

@Suite struct SessionTableTests {
    private let owner = SessionTable.Peer(name: "destination.example", fingerprint: [UInt8](repeating: 7, count: 32))
    private let stranger = SessionTable.Peer(name: "other.example", fingerprint: [UInt8](repeating: 8, count: 32))
    private let identifier = [UInt8](repeating: 1, count: 32)

    private func opened() throws -> SessionTable {
        var table = SessionTable()
        try table.controlArrived(from: owner, identifier: identifier)
        return table
    }

    @Test func theOwnerJoinsWithFaultAndBulk() throws {
        var table = try opened()
        try table.connectionArrived(.fault, from: owner, identifier: identifier)
        try table.connectionArrived(.bulk, from: owner, identifier: identifier)
        #expect(table.owner == owner)
    }

    @Test func nobodyJoinsBeforeThereIsASession() {
        var table = SessionTable()
        #expect(throws: SessionTable.Refusal.noSuchSession) {
            try table.connectionArrived(.fault, from: owner, identifier: identifier)
        }
    }

    @Test func aWrongIdentifierIsTurnedAway() throws {
        var table = try opened()
        var wrong = identifier
        wrong[31] ^= 1
        for bad in [wrong, [], Array(identifier.prefix(31)), [UInt8](repeating: 0, count: 32)] {
            #expect(throws: SessionTable.Refusal.noSuchSession) {
                try table.connectionArrived(.fault, from: owner, identifier: bad)
            }
        }
        #expect(table.owner == owner)
    }

    @Test func aRightIdentifierFromAnotherPeerIsTurnedAwayInTheSameWords() throws {
        var table = try opened()
        #expect(throws: SessionTable.Refusal.noSuchSession) {
            try table.connectionArrived(.bulk, from: stranger, identifier: identifier)
        }
        try table.connectionArrived(.bulk, from: owner, identifier: identifier)
    }

    @Test func aSecondControlConnectionDoesNotTakeTheSession() throws {
        var table = try opened()
        #expect(throws: SessionTable.Refusal.busy) {
            try table.controlArrived(from: stranger, identifier: [UInt8](repeating: 2, count: 32))
        }
        #expect(throws: SessionTable.Refusal.busy) {
            try table.controlArrived(from: owner, identifier: [UInt8](repeating: 2, count: 32))
        }
        #expect(table.owner == owner)
        try table.connectionArrived(.fault, from: owner, identifier: identifier)
    }

    @Test func theNumberOfConnectionsIsBounded() throws {
        var table = try opened()
        for _ in 0..<SessionTable.maximumConnections {
            try table.connectionArrived(.bulk, from: owner, identifier: identifier)
        }
        #expect(throws: SessionTable.Refusal.tooMany(.bulk)) {
            try table.connectionArrived(.bulk, from: owner, identifier: identifier)
        }
        table.connectionEnded(.bulk)
        try table.connectionArrived(.bulk, from: owner, identifier: identifier)
    }

    @Test func aSessionThatEndedEarlyMakesRoom() throws {
        var table = try opened()
        table.sessionEnded()
        try table.controlArrived(from: stranger, identifier: [UInt8](repeating: 2, count: 32))
        #expect(throws: SessionTable.Refusal.noSuchSession) {
            try table.connectionArrived(.fault, from: owner, identifier: identifier)
        }
    }

    @Test func aGrantedSessionNeverMakesRoom() throws {
        var table = try opened()
        table.granted()
        table.connectionEnded(.control)
        table.sessionEnded()
        #expect(throws: SessionTable.Refusal.granted) {
            try table.controlArrived(from: stranger, identifier: [UInt8](repeating: 2, count: 32))
        }
    }

    @Test func aClosedTableLetsNobodyIn() throws {
        var table = try opened()
        table.close()
        #expect(throws: SessionTable.Refusal.closed) {
            try table.connectionArrived(.fault, from: owner, identifier: identifier)
        }
    }
}
