//! A network's preprocessing, and the source of each of its settings.

use super::{
    known::{Arch, Preset},
    library::Library,
    preprocessing::{Colours, Filter, Grid, PerChannel, Preprocessing, Resize},
    registry,
    table::Table,
};
use crate::{
    Result,
    checkpoint::{Config, Origins, Overrides, Source, Sourced},
};

/// The sources of preprocessing settings, except the network's name.
pub(super) struct PreprocessingSources<'a> {
    pub overrides: &'a Overrides,
    pub config: Option<&'a Config>,
    /// `config`, if it names the network, as files written by the libraries do.
    pub named_config: Option<&'a Config>,
    pub preprocessor: Option<&'a Config>,
}

/// The library's default preprocessing for the network. Adds a note if other tags have other preprocessing.
fn library_default(
    library: &'static Library,
    arch: Option<Arch>,
    table: &'static Table,
    notes: &mut Vec<String>,
) -> Sourced<Preprocessing> {
    let known = arch.map(|arch| arch.known);
    let reference =
        known.or_else(|| registry::known(library.name).find(|known| std::ptr::eq(known.table, table)));
    let preprocessing = reference.map_or_else(Preprocessing::default, |known| known.presets[0].preprocessing);
    if let Some((arch, [first, others @ ..])) = arch.map(|arch| (arch, arch.known.presets)) {
        let others: Vec<&str> = others
            .iter()
            .filter(|other| other.preprocessing != preprocessing)
            .map(|other| other.tag)
            .collect();
        if !others.is_empty() {
            notes.push(format!(
                "pictures are preprocessed as for {arch}.{}; other published weights are preprocessed differently: \
                 name them with --arch {arch}.TAG, where TAG is {}",
                first.tag,
                others.join(" or ")
            ));
        }
    }
    Sourced::new(preprocessing, Source::Default(library.name))
}

/// Determines the preprocessing of a network with `channels` input channels. By precedence: overrides, the
/// tag in `--arch`, the files next to the weights, a tag from another source, and the library's default.
///
/// # Errors
/// [`crate::Error::File`] or [`crate::Error::Input`] if a file or an override has an unsupported setting.
pub(super) fn settle(
    library: &'static Library,
    (arch, preset): (Option<Arch>, Option<Sourced<&'static Preset>>),
    table: &'static Table,
    sources: &PreprocessingSources,
    (channels, segments): (usize, bool),
    notes: &mut Vec<String>,
    origins: &mut Origins,
) -> Result<Preprocessing> {
    let file = (library.preprocessing)(sources.named_config, sources.preprocessor)?;
    let file_name = if sources.preprocessor.is_some() { "preprocessor_config.json" } else { "config.json" };
    let file = file.map(|value| Sourced::new(value, Source::Config(file_name.into())));
    let preset = preset.map(|preset| Sourced::new(preset.value.preprocessing, preset.from));
    let Sourced { value: mut preprocessing, from } = match (file, preset) {
        (_, Some(preset)) if preset.from == Source::Arch => preset,
        (Some(file), _) => file,
        (None, Some(preset)) => preset,
        (None, None) => library_default(library, arch, table, notes),
    };
    let resize_text = |resize: &Resize| match resize {
        Resize::Short(side) => side.to_string(),
        Resize::Exact([rows, columns]) => format!("{rows}x{columns}"),
    };
    let size = |text: &str| {
        let (rows, columns) = text.split_once('x').unwrap_or((text, text));
        let size = [rows.parse().ok()?, columns.parse().ok()?];
        size.iter().all(|side| (1..=1 << 16).contains(side)).then_some(size)
    };
    let flag = |text: &str| text.parse::<bool>().ok();
    let (overrides, config) = (sources.overrides, sources.config);

    let input = overrides.get(config, "size", size)?;
    let resize = overrides.get(config, "resize", |text| match text.contains('x') {
        true => size(text).map(Resize::Exact),
        false => text.parse().ok().filter(|side| (1..=1 << 16).contains(side)).map(Resize::Short),
    })?;
    let resize = match (resize, &input, preprocessing.crop) {
        (Some(resize), ..) => Sourced::new(resize.value, resize.from),
        // The ratio of the resized to the cropped size stays the same.
        (None, Some(input), Some(crop)) => {
            let scaled = |side: usize, i: usize| side * input.value[i] / crop[i].max(1);
            let resize = match preprocessing.resize {
                Resize::Short(side) if input.value[0] == input.value[1] => Resize::Short(scaled(side, 0)),
                Resize::Short(_) => Resize::Exact(input.value),
                Resize::Exact([rows, columns]) => Resize::Exact([scaled(rows, 0), scaled(columns, 1)]),
            };
            Sourced::new(resize, input.from.clone())
        }
        (None, Some(input), None) => Sourced::new(Resize::Exact(input.value), input.from.clone()),
        (None, None, _) => Sourced::new(preprocessing.resize, from.clone()),
    };
    preprocessing.resize = origins.settle("resize", resize, resize_text);
    let crop = overrides
        .get(config, "crop", |text| if text == "none" { Some(None) } else { size(text).map(Some) })?;
    let crop = match (crop, input, preprocessing.crop) {
        // A label map covers the whole picture: no crop.
        _ if segments => Sourced::new(None, from.clone()),
        (Some(crop), ..) => crop,
        (None, Some(input), Some(_)) => Sourced::new(Some(input.value), input.from),
        (None, _, crop) => Sourced::new(crop, from.clone()),
    };
    preprocessing.crop = origins.settle("crop", crop, |crop| {
        crop.map_or("none".into(), |[rows, columns]| format!("{rows}x{columns}"))
    });
    let filter = overrides.get(config, "interpolation", |text| match text {
        "nearest" => Some(Filter::Nearest),
        "bilinear" => Some(Filter::Bilinear),
        "bicubic" => Some(Filter::Bicubic),
        "lanczos" => Some(Filter::Lanczos),
        _ => None,
    })?;
    // timm's `config.json` has a field of the same name, which has already been read.
    let filter = filter.filter(|filter| sources.named_config.is_none() || filter.from == Source::Set);
    let antialiases = |filter: Filter| filter != Filter::Linear;
    let filter = Sourced::new(preprocessing.filter, from.clone()).or(filter);
    let antialias = Sourced::new(antialiases(filter.value), filter.from.clone()).or(overrides.get(
        config,
        "resize_antialias",
        flag,
    )?);
    let corners = overrides.get(config, "align_corners", flag)?;
    let centers = overrides.get(config, "half_pixel_centers", flag)?;
    let grid = match (corners, centers) {
        (Some(Sourced { value: true, from }), _) => Sourced::new(Grid::Corners, from),
        (_, Some(Sourced { value: false, from })) => Sourced::new(Grid::TopLeft, from),
        (Some(Sourced { from, .. }), _) | (_, Some(Sourced { from, .. })) => Sourced::new(Grid::Area, from),
        (None, None) => Sourced::new(preprocessing.grid, from.clone()),
    };
    // Of the bilinear filters, only the two-tap one supports other grids, and only it never antialiases.
    let two_taps = !antialias.value || grid.value != Grid::Area;
    let name = |filter: &Filter| match filter {
        Filter::Nearest => "nearest".to_owned(),
        Filter::Bilinear | Filter::Linear => "bilinear".into(),
        Filter::Bicubic => "bicubic".into(),
        Filter::Lanczos => "lanczos".into(),
    };
    preprocessing.filter = match origins.settle("interpolation", filter, name) {
        Filter::Bilinear if two_taps => Filter::Linear,
        Filter::Linear if !two_taps => Filter::Bilinear,
        other @ (Filter::Bicubic | Filter::Lanczos) if two_taps => {
            let other = name(&other);
            return Err(crate::Error::Input(format!(
                "interpolation = {other} needs antialiasing and the default pixel grid: without them use \
                 bilinear or nearest"
            )));
        }
        other => other,
    };
    let antialias = Sourced::new(!two_taps, antialias.from);
    origins.settle("resize_antialias", antialias, bool::to_string);
    preprocessing.grid = grid.value;
    origins.settle(
        "align_corners",
        Sourced::new(preprocessing.grid == Grid::Corners, grid.from.clone()),
        bool::to_string,
    );
    if preprocessing.grid == Grid::TopLeft {
        origins.settle("half_pixel_centers", Sourced::new(false, grid.from), bool::to_string);
    }
    let colours = match channels {
        1 => Sourced::new(Colours::Grey, Source::Keys),
        _ => Sourced::new(preprocessing.colours, from.clone()),
    };
    let colours = colours.or(overrides.get(config, "channels", |text| match text {
        "rgb" => Some(Colours::Rgb),
        "bgr" => Some(Colours::Bgr),
        "grey" | "gray" => Some(Colours::Grey),
        _ => None,
    })?);
    preprocessing.colours = origins.settle("channels", colours, |colours| match colours {
        Colours::Rgb => "rgb".into(),
        Colours::Bgr => "bgr".into(),
        Colours::Grey => "grey".into(),
    });
    let numbers = |text: &str| {
        let numbers: Option<Vec<f32>> = text.split(',').map(|part| part.trim().parse().ok()).collect();
        numbers
            .filter(|numbers| numbers.iter().all(|n| n.is_finite()))
            .map(|numbers| PerChannel::new(&numbers))
    };
    let list = |values: &PerChannel| values.values().iter().map(f32::to_string).collect::<Vec<_>>().join(",");
    preprocessing.mean = origins.settle(
        "mean",
        Sourced::new(preprocessing.mean, from.clone()).or(overrides.get(config, "mean", numbers)?),
        list,
    );
    preprocessing.std = origins.settle(
        "std",
        Sourced::new(preprocessing.std, from).or(overrides.get(config, "std", numbers)?),
        list,
    );
    Ok(preprocessing)
}
