//! Zip archives with one file, as `etcd-snapshot-compress` makes them. The lab stores the file as it is.

use sha2::Digest as _;

const LOCAL: u32 = 0x0403_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
/// Lengths of the fixed parts.
const LOCAL_BYTES: usize = 30;

/// An archive with one file.
pub fn zip(name: &str, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let size = u32::try_from(bytes.len()).map_err(|_| "the snapshot is larger than 4 GiB".to_owned())?;
    let name_size = u16::try_from(name.len()).map_err(|_| "the name is too long".to_owned())?;
    // Version 1.0, no flags, stored, no date; then the sum, both sizes and the length of the name.
    let mut common = vec![10, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    common.extend(crc32(bytes).to_le_bytes());
    common.extend(size.to_le_bytes());
    common.extend(size.to_le_bytes());
    common.extend(name_size.to_le_bytes());
    common.extend([0, 0]);
    let mut archive = LOCAL.to_le_bytes().to_vec();
    archive.extend(&common);
    archive.extend(name.as_bytes());
    archive.extend(bytes);
    let directory_at = u32::try_from(archive.len()).map_err(|_| "the snapshot is larger than 4 GiB".to_owned())?;
    let mut directory = CENTRAL.to_le_bytes().to_vec();
    // Made by version 1.0 on Unix, a regular file with mode 0600 at the archive's beginning.
    directory.extend([10, 3]);
    directory.extend(&common);
    directory.extend([0, 0, 0, 0, 0, 0]);
    directory.extend((0o100_600_u32 << 16).to_le_bytes());
    directory.extend(0_u32.to_le_bytes());
    directory.extend(name.as_bytes());
    let directory_size = u32::try_from(directory.len()).unwrap_or(u32::MAX);
    archive.extend(directory);
    archive.extend(END.to_le_bytes());
    archive.extend([0, 0, 0, 0, 1, 0, 1, 0]);
    archive.extend(directory_size.to_le_bytes());
    archive.extend(directory_at.to_le_bytes());
    archive.extend([0, 0]);
    Ok(archive)
}

/// The first file of an archive that stores it as it is.
pub fn unzip(archive: &[u8]) -> Result<(String, Vec<u8>), String> {
    let broken = || "zip: not a valid zip file".to_owned();
    let field = |at: usize, size: usize| -> Result<usize, String> {
        let bytes = archive.get(at..at + size).ok_or_else(broken)?;
        Ok(bytes.iter().rev().fold(0, |value, byte| (value << 8) | usize::from(*byte)))
    };
    if field(0, 4)? != LOCAL as usize {
        return Err(broken());
    }
    if field(8, 2)? != 0 {
        return Err("zip: unsupported compression algorithm".to_owned());
    }
    let (sum, size) = (field(14, 4)?, field(22, 4)?);
    let (name_size, extra) = (field(26, 2)?, field(28, 2)?);
    let name = archive.get(LOCAL_BYTES..LOCAL_BYTES + name_size).ok_or_else(broken)?;
    let from = LOCAL_BYTES + name_size + extra;
    let bytes = archive.get(from..from + size).ok_or_else(broken)?;
    if crc32(bytes) as usize != sum {
        return Err("zip: checksum error".to_owned());
    }
    Ok((String::from_utf8_lossy(name).into_owned(), bytes.to_vec()))
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum, byte| {
        let mut sum = sum ^ u32::from(*byte);
        for _ in 0..8 {
            sum = (sum >> 1) ^ (0xEDB8_8320 & (sum & 1).wrapping_neg());
        }
        sum
    })
}

/// Whether a file is a whole etcd snapshot: it ends in the SHA-256 of everything before.
pub fn has_trailer(bytes: &[u8]) -> bool {
    bytes.len() % 512 == 32 && {
        let (data, sum) = bytes.split_at(bytes.len() - 32);
        sha2::Sha256::digest(data)[..] == *sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_can_read_the_archive() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.zip");
        std::fs::write(&path, zip("snapshot", b"hello").unwrap()).unwrap();
        let script = "import zipfile, sys; a = zipfile.ZipFile(sys.argv[1]); print(a.testzip(), a.namelist(), a.read('snapshot'))";
        let read = std::process::Command::new("python3").args(["-c", script]).arg(&path).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&read.stdout), "None ['snapshot'] b'hello'\n", "{read:?}");
    }

    #[test]
    fn a_damaged_archive_is_refused() {
        let archive = zip("snapshot", b"hello").unwrap();
        assert_eq!(unzip(&archive).unwrap(), ("snapshot".to_owned(), b"hello".to_vec()));
        let mut damaged = archive.clone();
        damaged[LOCAL_BYTES + 8] ^= 1;
        assert_eq!(unzip(&damaged).unwrap_err(), "zip: checksum error");
        assert!(unzip(&archive[..40]).is_err());
    }
}
