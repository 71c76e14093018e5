//! Opens PyTorch files and reads their tensors. The archive's checksums reject mutated pickles, so bytes with
//! the prefix `P` are also read as a pickle in a new archive with two storages.

#![no_main]

use std::io::{Cursor, Write};

use goldcrest::checkpoint::Checkpoint;
use libfuzzer_sys::fuzz_target;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

fuzz_target!(|bytes: &[u8]| {
    read(bytes.to_vec());
    if let Some(pickle) = bytes.strip_prefix(b"P") {
        read(archive(pickle));
    }
});

fn read(bytes: Vec<u8>) {
    let Ok(checkpoint) = Checkpoint::from_bytes("fuzzed", bytes, None, None) else { return };
    for key in checkpoint.keys() {
        let shape: Vec<Option<usize>> =
            checkpoint.shape(key).expect("a known key").iter().copied().map(Some).collect();
        let _ = checkpoint.tensor(key, &shape);
    }
}

fn archive(pickle: &[u8]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    // TorchScript objects go into a TorchScript archive, which has a code entry.
    let script = pickle.windows(11).any(|at| at == b"__torch__.C");
    let code: &[(&str, &[u8])] = if script { &[("a/code/c.py", b"")] } else { &[] };
    let storages: [(&str, &[u8]); 2] = [("a/data/0", &[1; 64]), ("a/data/1", &[2; 32])];
    for (name, content) in [("a/data.pkl", pickle)].iter().chain(&storages).chain(code) {
        writer.start_file(*name, options).expect("in memory");
        writer.write_all(content).expect("in memory");
    }
    writer.finish().expect("in memory").into_inner()
}
