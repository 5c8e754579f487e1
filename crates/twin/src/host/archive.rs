//! Archives with nothing compressed: a `.zip` with one file, and gzip.

/// CRC-32 as zip and gzip use it.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1)))
    };
    !bytes.iter().fold(u32::MAX, step)
}

/// A `.zip` that holds one stored file.
pub fn zip(name: &str, bytes: &[u8]) -> Vec<u8> {
    let size = (bytes.len() as u32).to_le_bytes();
    let length = (name.len() as u16).to_le_bytes();
    let crc = crc32(bytes).to_le_bytes();
    // Version 2.0, no flags, stored, no date; then sums and lengths.
    let common = [&[20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0][..], &crc, &size, &size, &length, &[0, 0]].concat();
    let local = [&b"PK\x03\x04"[..], &common, name.as_bytes(), bytes].concat();
    let central = [&b"PK\x01\x02\x14\x00"[..], &common, &[0; 14], name.as_bytes()].concat();
    let end = [
        &b"PK\x05\x06\0\0\0\0\x01\0\x01\0"[..],
        &(central.len() as u32).to_le_bytes(),
        &(local.len() as u32).to_le_bytes(),
        &[0, 0],
    ]
    .concat();
    [local, central, end].concat()
}

/// The first file of a `.zip` that [`zip`] wrote.
pub fn unzip(archive: &[u8]) -> Option<Vec<u8>> {
    let field = |at: usize, len: usize| {
        archive.get(at..at + len).map(|b| b.iter().rev().fold(0, |n, b| n << 8 | usize::from(*b)))
    };
    archive.starts_with(b"PK\x03\x04").then_some(())?;
    let (size, name, extra) = (field(22, 4)?, field(26, 2)?, field(28, 2)?);
    archive.get(30 + name + extra..30 + name + extra + size).map(<[u8]>::to_vec)
}

/// Gzip with stored blocks.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    const BLOCK: usize = 0xffff;
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    let last = bytes.len().saturating_sub(1) / BLOCK;
    for index in 0..=last {
        let block = &bytes[index * BLOCK..bytes.len().min((index + 1) * BLOCK)];
        out.push(u8::from(index == last));
        out.extend_from_slice(&(block.len() as u16).to_le_bytes());
        out.extend_from_slice(&(!(block.len() as u16)).to_le_bytes());
        out.extend_from_slice(block);
    }
    out.extend_from_slice(&crc32(bytes).to_le_bytes());
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out
}

/// What [`gzip`] wrote.
pub fn gunzip(packed: &[u8]) -> Option<Vec<u8>> {
    let mut rest = packed.get(10..)?;
    let mut out = Vec::new();
    loop {
        let (last, length) = (*rest.first()?, u16::from_le_bytes(rest.get(1..3)?.try_into().ok()?));
        out.extend_from_slice(rest.get(5..5 + usize::from(length))?);
        rest = &rest[5 + usize::from(length)..];
        if last == 1 {
            return Some(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_that_everybody_uses() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn what_was_zipped_comes_out_again() {
        let bytes = vec![7; 100_000];
        assert_eq!(unzip(&zip("snapshot", &bytes)), Some(bytes));
        assert_eq!(unzip(b"nothing"), None);
    }

    #[test]
    fn gzip_of_more_than_one_block_comes_out_again() {
        for length in [0, 1, 0xffff, 200_000] {
            let bytes = vec![9; length];
            assert_eq!(gunzip(&gzip(&bytes)), Some(bytes), "{length}");
        }
    }
}
