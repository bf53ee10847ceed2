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
        #expect(try table.connectionArrived(.fault, from: owner, identifier: identifier))
        #expect(try table.connectionArrived(.bulk, from: owner, identifier: identifier))
        #expect(table.owner == owner)
        #expect(try table.connectionArrived(.bulk, from: owner, identifier: identifier) == false)
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
        table.connectionEnded(.bulk, of: table.generation)
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
        try grant(&table)
        table.connectionEnded(.control, of: table.generation)
        table.sessionEnded()
        #expect(throws: SessionTable.Refusal.granted) {
            try table.controlArrived(from: stranger, identifier: [UInt8](repeating: 2, count: 32))
        }
    }

    private func grant(_ table: inout SessionTable) throws {
        let mayBegin = table.grantBegins()
        try #require(mayBegin)
        table.granted()
    }

    @Test func aGrantedSessionIsTakenUpAgainByItsOwnerOnly() throws {
        var table = try opened()
        try grant(&table)
        try table.connectionArrived(.fault, from: owner, identifier: identifier)
        for (peer, session) in [(stranger, identifier), (owner, [UInt8](repeating: 3, count: 32)), (owner, [])] {
            #expect(throws: SessionTable.Refusal.noSuchSession) {
                try table.controlReturned(from: peer, identifier: session)
            }
        }
        #expect(table.generation == 1)
        try table.controlReturned(from: owner, identifier: identifier)
        #expect(table.generation == 2)
    }

    @Test func aRenewedCertificateOfTheSameNamesIsTheSamePeer() throws {
        var named = owner
        named.names = ["b.example", "a.example"]
        var table = SessionTable()
        try table.controlArrived(from: named, identifier: identifier)
        try grant(&table)
        var renewed = named
        renewed.fingerprint = [UInt8](repeating: 9, count: 32)
        renewed.names = ["a.example", "b.example"]
        var other = renewed
        other.names = ["a.example"]
        #expect(throws: SessionTable.Refusal.noSuchSession) {
            try table.controlReturned(from: other, identifier: identifier)
        }
        try table.controlReturned(from: renewed, identifier: identifier)
        table.resumed(table.generation)
        // The other connections show the certificate of the control connection that is there now.
        #expect(throws: SessionTable.Refusal.noSuchSession) {
            try table.connectionArrived(.fault, from: named, identifier: identifier)
        }
        try table.connectionArrived(.fault, from: renewed, identifier: identifier)
    }

    @Test func pageConnectionsWaitUntilTheSessionGoesOn() throws {
        var table = try opened()
        try grant(&table)
        try table.connectionArrived(.bulk, from: owner, identifier: identifier)
        try table.controlReturned(from: owner, identifier: identifier)
        #expect(throws: SessionTable.Refusal.notYet) {
            try table.connectionArrived(.bulk, from: owner, identifier: identifier)
        }
        table.resumed(1)
        #expect(throws: SessionTable.Refusal.notYet) {
            try table.connectionArrived(.bulk, from: owner, identifier: identifier)
        }
        table.resumed(2)
        for _ in 0..<SessionTable.maximumConnections {
            try table.connectionArrived(.bulk, from: owner, identifier: identifier)
        }
        // One of the connections from before has ended: that makes no room.
        table.connectionEnded(.bulk, of: 1)
        #expect(throws: SessionTable.Refusal.tooMany(.bulk)) {
            try table.connectionArrived(.bulk, from: owner, identifier: identifier)
        }
    }

    @Test func whoComesBackBeforeTheGrantEndsTheSession() throws {
        var table = try opened()
        #expect(throws: SessionTable.Refusal.noSuchSession) {
            try table.controlReturned(from: owner, identifier: identifier)
        }
        #expect(table.isAbandoned)
        // The destination has been told that there is no such session, so it may not be granted any more.
        let mayBegin = table.grantBegins()
        #expect(!mayBegin)
        table.sessionEnded()
        #expect(!table.isAbandoned)
    }

    @Test func whoComesBackWhileTheGrantIsRecordedAsksAgain() throws {
        var table = try opened()
        let mayBegin = table.grantBegins()
        #expect(mayBegin)
        #expect(throws: SessionTable.Refusal.notYet) {
            try table.controlReturned(from: owner, identifier: identifier)
        }
        #expect(!table.isAbandoned)
        table.granted()
        try table.controlReturned(from: owner, identifier: identifier)
    }

    @Test func aClosedTableLetsNobodyIn() throws {
        var table = try opened()
        table.close()
        #expect(throws: SessionTable.Refusal.closed) {
            try table.connectionArrived(.fault, from: owner, identifier: identifier)
        }
    }
}
