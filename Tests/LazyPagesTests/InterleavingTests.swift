// SPDX-License-Identifier: Apache-2.0
import Testing

@Suite(.serialized, .timeLimit(.minutes(10)))
struct InterleavingTests {
    /// Each page is installed exactly once in every space that owes it, no fault is lost, no removed page gets old
    /// data, a child gets what its parent owed, a moved page arrives where it is now, and every page counts once;
    /// also when the driver dies with all it had in hand and another one takes over from its journal.
    @Test(arguments: 0..<10)
    func everyInterleavingKeepsThePromises(batch: UInt64) {
        var deaths = 0
        for seed in batch * 10..<batch * 10 + 10 {
            do {
                var simulation = Simulation(seed: seed)
                try simulation.run(steps: Int(100 + seed * 37 % 700))
                deaths += simulation.deaths
            } catch {
                Issue.record("seed \(seed): \(error)")
            }
        }
        #expect(deaths > 0)
    }
}
