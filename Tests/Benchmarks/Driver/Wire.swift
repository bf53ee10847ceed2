// SPDX-License-Identifier: Apache-2.0
internal import TestSupport

/// A network between the two sides, made by the program Link.
struct Wire {
    /// Microseconds that it adds to a round trip.
    var delay: Int
    /// What it carries each way in a second, in megabits; 0 for as much as the machine can.
    var megabits: Int

    /// What a user would call it.
    var name: String {
        let time = delay >= 1000 ? "\(delay / 1000) ms" : "\(delay) us"
        guard megabits > 0 else { return time }
        return time + ", " + (megabits >= 1000 ? "\(megabits / 1000) Gbit/s" : "\(megabits) Mbit/s")
    }

    /// The word that has the floor go through one like it.
    var floorMode: String { "link=\(delay):\(megabits)" }

    /// Leads to a port of loopback until the process ends.
    func start(to port: Int, _ placement: Placement = .free) throws -> (process: TestProcess, port: Int) {
        let process = try placement.start(BuiltProduct.path("Link"), ["\(port)", "\(delay)", "\(megabits)"])
        guard let port = Int(try process.readLine()) else { throw TestFailure("no port: \(process.report())") }
        return (process, port)
    }
}
