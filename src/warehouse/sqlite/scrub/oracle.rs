//! A second way to the same bytes, for the tests: marks what of a whole file is in use, then zeroes all
//! the rest. Shares no line with the code it is held against, trusts the file, and needs no SQLite.

/// Returns the file with every byte zeroed that is not in use.
pub(super) fn zeroed(file: &[u8]) -> Vec<u8> {
    let size = match u16::from_be_bytes([file[16], file[17]]) {
        1 => 65_536,
        size => usize::from(size),
    };
    let mut oracle = Oracle { file, size, used: vec![false; file.len()] };
    oracle.used[..100].fill(true);
    let mut roots = Vec::new();
    oracle.tree(1, &mut |payload| roots.extend(root_of(payload)));
    for root in roots {
        oracle.tree(root, &mut |_| {});
    }
    oracle.free_list();
    file.iter().zip(&oracle.used).map(|(byte, used)| if *used { *byte } else { 0 }).collect()
}

struct Oracle<'f> {
    file: &'f [u8],
    size: usize,
    used: Vec<bool>,
}

impl Oracle<'_> {
    fn use_bytes(&mut self, at: usize, count: usize) -> &[u8] {
        self.used[at..at + count].fill(true);
        &self.file[at..at + count]
    }

    fn number(&mut self, at: usize, bytes: usize) -> usize {
        self.use_bytes(at, bytes).iter().fold(0, |number, byte| number * 256 + usize::from(*byte))
    }

    /// A varint and where it ends.
    fn varint(&mut self, mut at: usize) -> (u64, usize) {
        let mut number = 0u64;
        for nth in 1..=9 {
            let byte = u64::from(self.use_bytes(at, 1)[0]);
            at += 1;
            if nth == 9 {
                return (number * 256 + byte, at);
            }
            number = number * 128 + byte % 128;
            if byte < 128 {
                break;
            }
        }
        (number, at)
    }

    fn tree(&mut self, page: usize, told: &mut dyn FnMut(&[u8])) {
        let begin = (page - 1) * self.size;
        let header = if page == 1 { 100 } else { begin };
        let kind = self.number(header, 1);
        let mut block = self.number(header + 1, 2);
        let cells = self.number(header + 3, 2);
        self.use_bytes(header + 5, 3);
        while block != 0 {
            let next = self.number(begin + block, 2);
            self.use_bytes(begin + block + 2, 2);
            block = next;
        }
        let is_leaf = kind >= 10;
        let mut children = Vec::new();
        for cell in 0..cells {
            let pointer = header + if is_leaf { 8 } else { 12 } + 2 * cell;
            let mut at = begin + self.number(pointer, 2);
            if !is_leaf {
                children.push(self.number(at, 4));
                at += 4;
            }
            match kind {
                5 => {
                    self.varint(at);
                }
                _ => told(&self.payload(at, kind == 13)),
            }
        }
        if !is_leaf {
            children.push(self.number(header + 8, 4));
        }
        for child in children {
            self.tree(child, told);
        }
    }

    fn payload(&mut self, at: usize, is_table: bool) -> Vec<u8> {
        let (length, mut at) = self.varint(at);
        if is_table {
            at = self.varint(at).1;
        }
        let length = usize::try_from(length).unwrap();
        let usable = self.size;
        let max_local = if is_table { usable - 35 } else { (usable - 12) * 64 / 255 - 23 };
        let min_local = (usable - 12) * 32 / 255 - 23;
        let surplus = min_local + length.saturating_sub(min_local) % (usable - 4);
        let local = match length {
            _ if length <= max_local => length,
            _ if surplus <= max_local => surplus,
            _ => min_local,
        };
        let mut payload = self.use_bytes(at, local).to_vec();
        let mut link = at + local;
        while payload.len() < length {
            let page = (self.number(link, 4) - 1) * self.size;
            let here = (length - payload.len()).min(self.size - 4);
            payload.extend(self.use_bytes(page + 4, here));
            link = page;
            // The last page of a chain links to nothing, and that is in use too.
            self.use_bytes(link, 4);
        }
        payload
    }

    fn free_list(&mut self) {
        let mut trunk = self.number(32, 4);
        while trunk != 0 {
            let at = (trunk - 1) * self.size;
            trunk = self.number(at, 4);
            let leaves = self.number(at + 4, 4);
            self.use_bytes(at + 8, 4 * leaves);
        }
    }
}

/// The fourth column of a row of `sqlite_schema`.
fn root_of(payload: &[u8]) -> Option<usize> {
    let mut read = Oracle { size: payload.len(), used: vec![false; payload.len()], file: payload };
    let (header, mut at) = read.varint(0);
    let mut content = usize::try_from(header).unwrap();
    for column in 0..4 {
        let (serial, next) = read.varint(at);
        at = next;
        let length = match serial {
            0 | 8 | 9 => 0,
            1..=4 => usize::try_from(serial).unwrap(),
            5 => 6,
            6 | 7 => 8,
            text => (usize::try_from(text).unwrap() - 12) / 2,
        };
        if column == 3 {
            let root = match serial {
                9 => 1,
                _ => read.number(content, length),
            };
            return Some(root).filter(|root| *root != 0);
        }
        content += length;
    }
    None
}
