//! How a network wants its pictures, and who said so.

use super::{
    known::{Arch, Preset},
    library::Library,
    preprocessing::{Colours, Filter, Grid, PerChannel, Preprocessing, Resize},
    registry,
    table::Table,
};
use crate::{
    Result,
    checkpoint::{Config, Origins, Said, Source, Sourced},
};

/// Whatever speaks of pictures, but for a network's name.
pub(super) struct Given<'a> {
    pub said: &'a Said,
    pub config: Option<&'a Config>,
    /// The same if it names the network, as libraries' own do.
    pub of_library: Option<&'a Config>,
    pub preprocessor: Option<&'a Config>,
}

/// What the library does with pictures for the network, and in `notes` what its other tags would.
fn usual(
    library: &'static Library,
    arch: Option<Arch>,
    table: &'static Table,
    notes: &mut Vec<String>,
) -> Sourced<Preprocessing> {
    let known = arch.map(|arch| arch.known);
    let like = known.or_else(|| registry::known(library.name).find(|known| std::ptr::eq(known.table, table)));
    let how = like.map_or_else(Preprocessing::default, |known| known.presets[0].how);
    if let Some((arch, [first, others @ ..])) = arch.map(|arch| (arch, arch.known.presets)) {
        let others: Vec<&str> =
            others.iter().filter(|other| other.how != how).map(|other| other.tag).collect();
        if !others.is_empty() {
            notes.push(format!(
                "pictures are prepared as for {arch}.{}; say {arch}.TAG for another of {}",
                first.tag,
                others.join(", ")
            ));
        }
    }
    Sourced::new(how, Source::Default(library.name))
}

/// Settles what becomes of pictures for a network that takes so many channels: what was said counts more than a
/// tag that was said with the name, that more than the files beside the weights, and those more than
/// what the library does for the network.
///
/// # Errors
/// [`crate::Error::File`] if a file asks for what is not done, [`crate::Error::Input`] if somebody did.
pub(super) fn settle(
    library: &'static Library,
    (arch, preset): (Option<Arch>, Option<Sourced<&'static Preset>>),
    table: &'static Table,
    given: &Given,
    (channels, segments): (usize, bool),
    notes: &mut Vec<String>,
    origins: &mut Origins,
) -> Result<Preprocessing> {
    let file = (library.preprocessing)(given.of_library, given.preprocessor)?;
    let beside = if given.preprocessor.is_some() { "preprocessor_config.json" } else { "config.json" };
    let file = file.map(|how| Sourced::new(how, Source::Config(beside.into())));
    let preset = preset.map(|preset| Sourced::new(preset.value.how, preset.from));
    let Sourced { value: mut how, from } = match (file, preset) {
        (_, Some(preset)) if preset.from == Source::Arch => preset,
        (Some(file), _) => file,
        (None, Some(preset)) => preset,
        (None, None) => usual(library, arch, table, notes),
    };
    let whole = |resize: &Resize| match resize {
        Resize::Short(side) => side.to_string(),
        Resize::Exact([rows, columns]) => format!("{rows}x{columns}"),
    };
    let size = |text: &str| {
        let (rows, columns) = text.split_once('x').unwrap_or((text, text));
        let size = [rows.parse().ok()?, columns.parse().ok()?];
        size.iter().all(|side| (1..=1 << 16).contains(side)).then_some(size)
    };
    let flag = |text: &str| text.parse::<bool>().ok();
    let (said, config) = (given.said, given.config);

    let input = said.get(config, "size", size)?;
    let resize = said.get(config, "resize", |text| match text.contains('x') {
        true => size(text).map(Resize::Exact),
        false => text.parse().ok().filter(|side| (1..=1 << 16).contains(side)).map(Resize::Short),
    })?;
    let resize = match (resize, &input, how.crop) {
        (Some(resize), ..) => Sourced::new(resize.value, resize.from),
        // As much is cut as before.
        (None, Some(input), Some(crop)) => {
            let scaled = |side: usize, i: usize| side * input.value[i] / crop[i].max(1);
            let resize = match how.resize {
                Resize::Short(side) if input.value[0] == input.value[1] => Resize::Short(scaled(side, 0)),
                Resize::Short(_) => Resize::Exact(input.value),
                Resize::Exact([rows, columns]) => Resize::Exact([scaled(rows, 0), scaled(columns, 1)]),
            };
            Sourced::new(resize, input.from.clone())
        }
        (None, Some(input), None) => Sourced::new(Resize::Exact(input.value), input.from.clone()),
        (None, None, _) => Sourced::new(how.resize, from.clone()),
    };
    how.resize = origins.settle("resize", resize, whole);
    let crop =
        said.get(config, "crop", |text| if text == "none" { Some(None) } else { size(text).map(Some) })?;
    let crop = match (crop, input, how.crop) {
        // A label map covers the whole picture, so that nothing may be cut.
        _ if segments => Sourced::new(None, from.clone()),
        (Some(crop), ..) => crop,
        (None, Some(input), Some(_)) => Sourced::new(Some(input.value), input.from),
        (None, _, crop) => Sourced::new(crop, from.clone()),
    };
    how.crop = origins.settle("crop", crop, |crop| {
        crop.map_or("none".into(), |[rows, columns]| format!("{rows}x{columns}"))
    });
    let filter = said.get(config, "interpolation", |text| match text {
        "nearest" => Some(Filter::Nearest),
        "bilinear" => Some(Filter::Bilinear),
        "bicubic" => Some(Filter::Bicubic),
        "lanczos" => Some(Filter::Lanczos),
        _ => None,
    })?;
    // timm's configurations call it so too, and were read.
    let filter = filter.filter(|filter| given.of_library.is_none() || filter.from == Source::Set);
    let widens = |filter: Filter| filter != Filter::Linear;
    let filter = Sourced::new(how.filter, from.clone()).or(filter);
    let antialias = Sourced::new(widens(filter.value), filter.from.clone()).or(said.get(
        config,
        "resize_antialias",
        flag,
    )?);
    let corners = said.get(config, "align_corners", flag)?;
    let centers = said.get(config, "half_pixel_centers", flag)?;
    let grid = match (corners, centers) {
        (Some(Sourced { value: true, from }), _) => Sourced::new(Grid::Corners, from),
        (_, Some(Sourced { value: false, from })) => Sourced::new(Grid::TopLeft, from),
        (Some(Sourced { from, .. }), _) | (_, Some(Sourced { from, .. })) => Sourced::new(Grid::Area, from),
        (None, None) => Sourced::new(how.grid, from.clone()),
    };
    // Only two taps know other grids, and only they do not widen.
    let two_taps = !antialias.value || grid.value != Grid::Area;
    let name = |filter: &Filter| match filter {
        Filter::Nearest => "nearest".to_owned(),
        Filter::Bilinear | Filter::Linear => "bilinear".into(),
        Filter::Bicubic => "bicubic".into(),
        Filter::Lanczos => "lanczos".into(),
    };
    how.filter = match origins.settle("interpolation", filter, name) {
        Filter::Bilinear if two_taps => Filter::Linear,
        Filter::Linear if !two_taps => Filter::Bilinear,
        other @ (Filter::Bicubic | Filter::Lanczos) if two_taps => {
            let other = name(&other);
            return Err(crate::Error::Input(format!(
                "interpolation = {other} is only done with antialiasing and over the whole area: bilinear and nearest are \
                 done without"
            )));
        }
        other => other,
    };
    let antialias = Sourced::new(!two_taps, antialias.from);
    origins.settle("resize_antialias", antialias, bool::to_string);
    how.grid = grid.value;
    origins.settle(
        "align_corners",
        Sourced::new(how.grid == Grid::Corners, grid.from.clone()),
        bool::to_string,
    );
    if how.grid == Grid::TopLeft {
        origins.settle("half_pixel_centers", Sourced::new(false, grid.from), bool::to_string);
    }
    let colours = match channels {
        1 => Sourced::new(Colours::Grey, Source::Keys),
        _ => Sourced::new(how.colours, from.clone()),
    };
    let colours = colours.or(said.get(config, "channels", |text| match text {
        "rgb" => Some(Colours::Rgb),
        "bgr" => Some(Colours::Bgr),
        "grey" | "gray" => Some(Colours::Grey),
        _ => None,
    })?);
    how.colours = origins.settle("channels", colours, |colours| match colours {
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
    how.mean = origins.settle(
        "mean",
        Sourced::new(how.mean, from.clone()).or(said.get(config, "mean", numbers)?),
        list,
    );
    how.std = origins.settle("std", Sourced::new(how.std, from).or(said.get(config, "std", numbers)?), list);
    Ok(how)
}
