//! Any bytes as samples: `.npz`, `.npy`, IDX (also gzipped) or Parquet, told by the first byte as the labels or the images.
#![no_main]

use std::io::Write;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use neural_cleanse::data::{Columns, Wanted, image_shape, load};

fuzz_target!(|bytes: &[u8]| {
    let Some((role, bytes)) = bytes.split_first() else { return };
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(bytes).expect("room for it");
    let images = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/seeds/images.npy"));
    let wanted = Wanted::new(1, 4, 4);
    if role % 2 == 1 {
        let _ = load(images, Some(file.path()), &wanted);
    } else if let Ok(samples) = load(file.path(), None, &wanted) {
        assert_eq!(samples.images.shape()[1..], [1, 4, 4]);
        assert!(samples.labels.is_none_or(|labels| labels.len() == samples.images.shape()[0]));
        let _ = image_shape(file.path(), &Columns::default());
    }
});
