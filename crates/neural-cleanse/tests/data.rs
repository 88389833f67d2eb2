//! Public data sets, where they have been put beside the workspace in `shared/data`.

use std::path::PathBuf;

use neural_cleanse::data::{Wanted, load};

fn data_set(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(name);
    if !path.is_file() {
        eprintln!("skipped: {} is not there", path.display());
        return None;
    }
    Some(path)
}

#[test]
fn mnist_is_read_with_its_labels() {
    let Some(path) = data_set("mnist-t10k-images-idx3-ubyte.gz") else { return };
    let samples = load(&path, None, &Wanted::new(1, 28, 28)).expect("MNIST");
    assert_eq!(samples.images.shape(), [10_000, 1, 28, 28]);
    let labels = samples.labels.expect("labels");
    assert_eq!(labels[..10], [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]);
    assert_eq!(samples.notes.len(), 1, "{:?}", samples.notes);
}

#[test]
fn colour_images_are_read_channels_first() {
    let cases =
        [("cifar10jpeg-test5000-images-idx4-ubyte.gz", 5000, 10), ("gtsrb32-test6000-images-idx4-ubyte.gz", 6000, 43)];
    for (name, count, classes) in cases {
        let Some(path) = data_set(name) else { continue };
        let samples = load(&path, None, &Wanted::new(3, 32, 32)).expect(name);
        assert_eq!(samples.images.shape(), [count, 3, 32, 32], "{name}");
        let subset = samples.subset(classes * 2, 1);
        let mut labels = subset.labels.expect("labels");
        labels.sort_unstable();
        let twice: Vec<usize> = (0..classes * 2).map(|index| index / 2).collect();
        assert_eq!(labels, twice, "{name}");
    }
}
