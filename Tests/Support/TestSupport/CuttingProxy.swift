// SPDX-License-Identifier: Apache-2.0
internal import CTestSupport

/// A TCP proxy on loopback that does to connections what networks do to them.
@safe
public final class CuttingProxy: Sendable {
    /// What happens when a place is reached.
    public enum Action: Sendable {
        /// The connection is reset on both sides.
        case cut
        /// All connections are.
        case cutAll
        /// One direction ends, the other goes on.
        case halfClose
        /// Nothing is carried any more on this connection, and nobody is told.
        case stall
        /// What comes next is carried twice: so many bytes of it, or, for 0, all that is here.
        case duplicate(UInt32)
        /// A bit of what comes next is another one: the one of this number, counted around what is here.
        case corrupt(UInt32)
        /// One direction carries nothing for so many milliseconds, and then goes on.
        case delay(UInt32)

        fileprivate var amount: UInt32 {
            switch self {
            case .duplicate(let amount), .corrupt(let amount), .delay(let amount): amount
            case .cut, .cutAll, .halfClose, .stall: 0
            }
        }

        fileprivate var number: ctest_proxy_action {
            switch self {
            case .duplicate: CTEST_DUPLICATE
            case .corrupt: CTEST_CORRUPT
            case .delay: CTEST_DELAY
            case .cut: CTEST_CUT
            case .cutAll: CTEST_CUT_ALL
            case .halfClose: CTEST_HALF_CLOSE
            case .stall: CTEST_STALL
            }
        }
    }

    /// Which way bytes go.
    public enum Direction: Int32, Sendable, CaseIterable {
        /// To where the proxy leads.
        case toServer = 0
        /// To who connected.
        case toClient = 1
    }

    /// Where something happens.
    public enum Place: Sendable {
        /// Before the byte of this number, from 0.
        case byte(UInt64)
        /// Before the record of TLS of this number, from 0, which is what carries a message; what happens then happens to it alone.
        case record(UInt64)
    }

    // SAFETY: the C side locks.
    private nonisolated(unsafe) let proxy: OpaquePointer
    /// Where it listens.
    public let port: Int

    /// Starts a proxy to a port of loopback.
    public init(to target: Int) throws {
        var port: Int32 = 0
        // SAFETY: room for one number that lives during the call.
        guard let proxy = unsafe ctest_proxy_start(Int32(target), &port) else { throw TestFailure("no proxy") }
        unsafe self.proxy = proxy
        self.port = Int(port)
    }

    deinit {
        // SAFETY: nobody uses it any more.
        unsafe ctest_proxy_stop(proxy)
    }

    /// Does something before byte `offset` of a connection, once.
    ///
    /// - Parameters:
    ///   - action: what.
    ///   - connection: its number in the order in which they came, from 0; nil for any: then all bytes of all of them are counted.
    ///   - direction: nil for either.
    ///   - offset: bytes that are carried before.
    public func plan(_ action: Action, connection: Int? = nil, _ direction: Direction? = nil, at offset: UInt64) {
        add(action, connection, direction, .byte(offset))
    }

    /// Does something at a place of a connection, once; as ``plan(_:connection:_:at:)``.
    public func plan(_ action: Action, connection: Int, _ direction: Direction, at place: Place) {
        add(action, connection, direction, place)
    }

    private func add(_ action: Action, _ connection: Int?, _ direction: Direction?, _ place: Place) {
        let (offset, countsRecords) =
            switch place {
            case .byte(let number): (number, false)
            case .record(let number): (number, true)
            }
        let rule = ctest_proxy_rule(
            connection: Int32(connection ?? -1),
            direction: direction?.rawValue ?? -1,
            offset: offset,
            counts_records: countsRecords,
            action: action.number,
            amount: action.amount,
            fired: false
        )
        // SAFETY: the proxy lives as long as this object.
        unsafe ctest_proxy_add(proxy, rule)
    }

    /// Does nothing of what was planned and has not happened.
    public func forgetPlans() { tell(CTEST_FORGET, 0) }

    /// Resets every connection now.
    public func cutAll() { tell(CTEST_CUT_NOW, 1) }

    /// Resets one connection now.
    public func cut(_ connection: Int) { tell(CTEST_CUT_ONE, Int32(connection)) }

    /// Lets nobody in, or everybody again.
    public func refuse(_ refuses: Bool) { tell(CTEST_REFUSE, refuses ? 1 : 0) }

    /// Carries nothing any more, and tells nobody; or goes on.
    public func stall(_ stalls: Bool) { tell(CTEST_STALL_NOW, stalls ? 1 : 0) }

    /// Leads new connections to another port.
    public func aim(at port: Int) { tell(CTEST_AIM, Int32(port)) }

    private func tell(_ order: ctest_proxy_order, _ value: Int32) {
        // SAFETY: as above.
        unsafe ctest_proxy_tell(proxy, order, value)
    }

    /// Bytes of all connections.
    public var carried: UInt64 {
        // SAFETY: as above.
        unsafe ctest_proxy_look(proxy).carried
    }

    /// Connections that have come.
    public var accepted: Int {
        // SAFETY: as above.
        Int(unsafe ctest_proxy_look(proxy).accepted)
    }

    /// Connections that the proxy has ended.
    public var cuts: Int {
        // SAFETY: as above.
        Int(unsafe ctest_proxy_look(proxy).cuts)
    }

    /// Plans that have come to pass.
    public var happened: Int {
        // SAFETY: as above.
        Int(unsafe ctest_proxy_look(proxy).fired)
    }

    /// The numbers of those records of one connection that begin a message: a longer one is several records, all but the last one full.
    public func messages(of connection: Int, _ direction: Direction) -> [UInt64] {
        unsafe Array(unsafeUninitializedCapacity: 4096) { room, count in
            // SAFETY: as above; there is room for so many.
            let found = unsafe ctest_proxy_messages(
                proxy,
                Int32(connection),
                direction.rawValue,
                room.baseAddress!,
                Int32(room.count)
            )
            count = Int(found)
        }
    }

    /// Bytes of one connection.
    public func carried(by connection: Int, _ direction: Direction) -> UInt64 {
        // SAFETY: as above.
        unsafe ctest_proxy_carried(proxy, Int32(connection), direction.rawValue)
    }
}
