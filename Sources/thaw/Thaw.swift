// SPDX-License-Identifier: Apache-2.0

@main
struct Thaw {
    static func main() {
    }
}
