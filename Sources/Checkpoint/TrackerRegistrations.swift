// SPDX-License-Identifier: Apache-2.0
public import Paging

/// What a tracker of this program that has registered mappings of a process answers about its registrations.
public struct TrackerRegistrations: Sendable {
    /// Whether the write protection (`uw` in VmFlags) of a range is the tracker's.
    let owns: @Sendable (AddressRange) -> Bool
    /// Whether a mapping in one of the ranges belongs to another userfaultfd, found by trying to register them with the tracker's, as
    /// ``RegistrationTrial`` does with a new one; nil when the tracker's cannot tell.
    let areContested: @Sendable ([AddressRange]) -> Bool?

    /// Takes the tracker's answers.
    public init(
        owns: @escaping @Sendable (AddressRange) -> Bool,
        areContested: @escaping @Sendable ([AddressRange]) -> Bool?
    ) {
        self.owns = owns
        self.areContested = areContested
    }
}
