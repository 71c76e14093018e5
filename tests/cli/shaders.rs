//! `inspect --shaders`: the shader code of every pipeline.

use std::{collections::BTreeMap, fs, path::Path};

use super::{failure, goldcrest, success};

/// The rows of a TSV file without a header.
fn rows(folder: &Path, table: &str, columns: usize) -> Vec<Vec<String>> {
    let text = fs::read_to_string(folder.join(table)).unwrap();
    let rows: Vec<Vec<String>> =
        text.lines().map(|line| line.split('\t').map(String::from).collect()).collect();
    assert!(!rows.is_empty() && rows.iter().all(|row| row.len() == columns), "{table}");
    rows
}

fn write(folder: &Path, args: &[&str]) -> BTreeMap<String, Vec<String>> {
    let mut command = goldcrest(["inspect", "--shaders"]);
    command.arg(folder).args(args);
    let text = success(command);
    let pipelines: BTreeMap<String, Vec<String>> =
        rows(folder, "manifest.tsv", 9).into_iter().map(|row| (row[0].clone(), row)).collect();
    assert!(text.starts_with(&format!("{} pipelines for ", pipelines.len())), "{text}");
    pipelines
}

#[test]
fn every_pipeline_of_a_plan_in_all_languages() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let networks = ["--networks", "mobilenet_v2@0.35,torchvision/mobilenet_v3_small", "--baseline"];
    let pipelines = write(folder, &networks);
    let steps = rows(folder, "steps.tsv", 11);
    let of = |network: &str| steps.iter().filter(|step| step[0] == network).count();
    assert!(of("synthetic/mobilenet_v2@0.35") > 30 && of("synthetic/torchvision/mobilenet_v3_small") > 30);
    assert!(steps.iter().all(|step| pipelines.contains_key(&step[5])), "steps name pipelines");
    assert!(pipelines.keys().all(|file| steps.iter().any(|step| step[5] == *file)), "all are used");
    for (file, row) in &pipelines {
        let [_, shader, element, tier, reads, writes, textures, ..] = &row[..] else { panic!("{row:?}") };
        assert_eq!((&element[..], &tier[..], &textures[..]), ("f32", "Baseline", "-"));
        let text = |language: &str| fs::read_to_string(folder.join(format!("{file}.{language}"))).unwrap();
        let bound = text("wgsl").matches("var<storage").count();
        assert_eq!(reads.parse::<usize>().unwrap() + writes.parse::<usize>().unwrap(), bound, "{shader}");
        assert!(text("hlsl").contains("numthreads") && text("msl").contains("kernel void"), "{shader}");
        let words = fs::read(folder.join(format!("{file}.spv"))).unwrap();
        assert_eq!(words[..4], 0x0723_0203u32.to_le_bytes(), "{shader}");
    }
    let count = |folder: &Path| fs::read_dir(folder).unwrap().count();
    assert_eq!(count(folder), 4 * pipelines.len() + 2);

    // A second run replaces the folder's files. With --candidates there are more pipelines.
    let few = write(folder, &["--networks", "mobilenet_v2@0.35", "--precision", "f16", "--baseline"]);
    assert_eq!(count(folder), 4 * few.len() + 2);
    let more = write(folder, &["--networks", "mobilenet_v2@0.35", "--candidates", "--baseline"]);
    assert!(more.len() > 2 * few.len());

    // A failed run changes no file.
    let mut command = goldcrest(["inspect", "--networks", "mobilenet_v2@0.35,mobilenet_v9", "--baseline"]);
    command.arg("--shaders").arg(folder);
    assert!(failure(command, 1).contains("mobilenet_v9"));
    assert_eq!(count(folder), 4 * more.len() + 2);
    assert_eq!(rows(folder, "manifest.tsv", 9).len(), more.len());
}

#[test]
fn plans_for_a_card_use_subgroups_and_avoid_spilling_tiles() {
    let folder = tempfile::tempdir().unwrap();
    let product = |constants: &str, names: [&str; 2]| -> u32 {
        let value = |name: &str| {
            let own = constants.split(',').find_map(|pair| pair.strip_prefix(&format!("{name}=")));
            own.unwrap().parse::<u32>().unwrap()
        };
        names.map(value).iter().product()
    };
    for (card, most) in [("rdna3", 16), ("ada", 16), ("xe", 8), ("m1", 8), ("adreno7", 8)] {
        let networks = ["--networks", "mobilenet_v2", "--candidates", "--machine", card];
        let pipelines = write(folder.path(), &networks);
        assert!(pipelines.values().any(|row| row[3] == "Subgroups"), "{card}");
        let sums = pipelines.values().filter_map(|row| match &row[1][..] {
            "pointwise" | "pointwise_subgroup" | "staged" => Some(product(&row[8], ["PIXELS", "QUADS"])),
            "dense" => Some(product(&row[8], ["COLUMNS", "QUADS"])),
            "block" => Some(product(&row[8], ["SUMS", "QUADS"])),
            _ => None,
        });
        assert_eq!(sums.max(), Some(most), "{card}");
    }
}

#[test]
fn named_networks_are_inspected_one_at_a_time() {
    let text = success(goldcrest(["inspect", "--networks", "timm/mobilenetv4_conv_small_050", "--baseline"]));
    assert!(
        text.contains("synthetic/timm/mobilenetv4_conv_small_050")
            && text.contains("WebGPU's default limits")
    );
    for (args, words) in [
        (&["--networks", "mobilenet_v1,mobilenet_v2"][..], "--shaders"),
        (&["--networks", "all"], "--shaders"),
        (&["--networks", "mobilenet_v2", "--machine", "rdna3", "--adapter", "llvmpipe"], "--machine"),
        (&["--networks", "mobilenet_v2", "--baseline", "--threads", "1"], "--threads"),
    ] {
        let mut command = goldcrest(["inspect"]);
        command.args(args);
        assert!(failure(command, 1).contains(words), "{args:?}");
    }
    for args in [
        &["--networks", "mobilenet_v2", "--arch", "torchvision/mobilenet_v2"][..],
        &["--networks", "mobilenet_v2", "--candidates"],
        &["--networks", "mobilenet_v2", "--machine", "rdna3", "--baseline"],
    ] {
        let mut command = goldcrest(["inspect"]);
        command.args(args);
        failure(command, 2);
    }
}
