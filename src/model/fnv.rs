//! FNV-1a: a number of some bytes that is the same on every machine and in every release, unlike the standard library's.

/// Where a hash begins.
pub const START: u64 = 0xcbf2_9ce4_8422_2325;

/// Goes on from `hash` with more bytes.
pub fn fold(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_fnv_1a() {
        assert_eq!(fold(START, b""), START);
        assert_eq!(fold(START, b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fold(fold(START, b"foo"), b"bar"), 0x8594_4171_f739_67e8);
    }
}
