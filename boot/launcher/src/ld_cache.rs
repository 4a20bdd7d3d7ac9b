//! `/etc/ld.so.cache`: where ldconfig found each library. Layout: glibc 2.32, sysdeps/generic/dl-cache.h.

use std::collections::HashMap;

/// The cache, on this host and in the guest.
pub const PATH: &str = "/etc/ld.so.cache";

/// Old caches have a table in another format before this one.
const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const HEADER: usize = 48;
/// flags, name, path (offsets from the magic), an old version number, and 8 bytes of hardware capabilities.
const ENTRY: usize = 24;
/// A library for x86-64 and glibc 2.
const FLAGS: u32 = 0x303;

/// Names and paths of libraries.
#[derive(Debug, Default)]
pub struct LdCache {
    paths: HashMap<String, String>,
}

impl LdCache {
    /// Reads the bytes of a cache. What cannot be read is not in it: the loader goes on without it, too.
    pub fn parse(bytes: &[u8]) -> Self {
        let start = bytes.windows(MAGIC.len()).position(|window| window == MAGIC);
        let table = start.map_or(&[][..], |start| &bytes[start..]);
        let count = word(table, MAGIC.len()).unwrap_or(0) as usize;
        let mut paths = HashMap::new();
        for entry in table.get(HEADER..).unwrap_or_default().chunks_exact(ENTRY).take(count) {
            let text = |at| word(entry, at).and_then(|offset| text(table, offset as usize));
            // Variants for better CPUs stand beside the one for every CPU.
            let is_plain = word(entry, 0) == Some(FLAGS) && entry[16..] == [0; 8];
            if let (true, Some(name), Some(path)) = (is_plain, text(4), text(8)) {
                paths.entry(name).or_insert(path);
            }
        }
        Self { paths }
    }

    /// The path of the library of this name.
    pub fn find(&self, name: &str) -> Option<&str> {
        self.paths.get(name).map(String::as_str)
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_le_bytes(*word))
}

fn text(bytes: &[u8], at: usize) -> Option<String> {
    let text = bytes.get(at..)?.split(|&byte| byte == 0).next()?;
    String::from_utf8(text.into()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(entries: &[(u32, &str, &str, u64)]) -> Vec<u8> {
        let strings_at = HEADER + entries.len() * ENTRY;
        let (mut bytes, mut strings) = (MAGIC.to_vec(), Vec::new());
        bytes.extend((entries.len() as u32).to_le_bytes());
        bytes.resize(HEADER, 0);
        for (flags, name, path, capabilities) in entries {
            let mut push = |text: &str| {
                let at = (strings_at + strings.len()) as u32;
                strings.extend([text.as_bytes(), b"\0"].concat());
                at
            };
            let words = [*flags, push(name), push(path), 0];
            words.iter().for_each(|word| bytes.extend(word.to_le_bytes()));
            bytes.extend(capabilities.to_le_bytes());
        }
        [bytes, strings].concat()
    }

    #[test]
    fn libraries_for_every_x86_64_are_found() {
        let entries = [
            (0x303, "libz.so.1", "/lib/glibc-hwcaps/x86-64-v3/libz.so.1", 1 << 62),
            (0x803, "libz.so.1", "/libx32/libz.so.1", 0),
            (0x303, "libz.so.1", "/lib/x86_64-linux-gnu/libz.so.1", 0),
            (0x303, "libm.so.6", "/lib/x86_64-linux-gnu/libm.so.6", 0),
        ];
        let new = cache(&entries);
        for bytes in [new.clone(), [b"ld.so-1.7.0\0and an old table", &new[..]].concat()] {
            let cache = LdCache::parse(&bytes);
            assert_eq!(cache.find("libz.so.1"), Some("/lib/x86_64-linux-gnu/libz.so.1"));
            assert_eq!(cache.find("libm.so.6"), Some("/lib/x86_64-linux-gnu/libm.so.6"));
            assert_eq!(cache.find("libx.so"), None);
        }
    }

    #[test]
    fn a_damaged_cache_has_fewer_libraries() {
        let mut whole = cache(&[(0x303, "a", "/a", 0), (0x303, "b", "/b", 0)]);
        for len in 0..whole.len() {
            LdCache::parse(&whole[..len]);
        }
        whole[MAGIC.len()..][..4].fill(0xff);
        whole[HEADER + 4..][..4].fill(0xff);
        assert_eq!(LdCache::parse(&whole).find("b"), Some("/b"));
    }
}
