//! Device features beyond WebGPU's baseline, for the kernels that use them.

use std::sync::{Arc, OnceLock};

use super::Gpu;
#[cfg(not(target_arch = "wasm32"))]
use super::trust;
use crate::{
    kernels::{self, MatrixUnits, Subgroup, Tier, pointwise_subgroup::LEAST_LANES},
    tensor::Element,
};

/// Features that tiers beyond the baseline need. They are not used in browsers, whose WGSL for
/// subgroups differs from that of wgpu's own compiler, and which have no matrices.
pub(super) const FEATURES: wgpu::Features =
    wgpu::Features::SUBGROUP.union(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX);

/// A device's subgroups and matrix units.
#[derive(Clone)]
pub(super) struct Tiers {
    subgroup: Option<Subgroup>,
    f32: Offer,
    f16: Offer,
}

/// Matrix units that a device reports, and whether they compute correctly, once checked.
#[derive(Clone, Default)]
struct Offer {
    units: Option<MatrixUnits>,
    correct: Arc<OnceLock<bool>>,
}

impl Tiers {
    /// The tiers of a device of this adapter.
    pub fn of(adapter: &wgpu::Adapter, device: &wgpu::Device) -> Self {
        let features = if cfg!(target_arch = "wasm32") { wgpu::Features::empty() } else { device.features() };
        let (info, limits) = (adapter.get_info(), device.limits());
        let (least, most) = (info.subgroup_min_size, info.subgroup_max_size);
        let has = features.contains(wgpu::Features::SUBGROUP) && least >= LEAST_LANES;
        let subgroup = has.then_some(Subgroup { least, most: most.min(kernels::WORKGROUP_SIZE) });
        let largest = limits.max_compute_invocations_per_workgroup.min(limits.max_compute_workgroup_size_x);
        let units = |side| MatrixUnits { side, subgroup: Subgroup { least, most } };
        let offer = |ab_type| {
            let fits = |p: &wgpu::CooperativeMatrixProperties| {
                let side = p.m_size;
                let square = p.n_size == side && p.k_size == side && matches!(side, 8 | 16);
                square && p.ab_type == ab_type && p.cr_type == wgpu::CooperativeScalarType::F32
            };
            let sides = adapter.cooperative_matrix_properties().into_iter().filter(fits).map(|p| p.m_size);
            let units = sides.max().map(units);
            let fits =
                |units: &MatrixUnits| has && features.contains(FEATURES) && units.workgroup_size() <= largest;
            Offer { units: units.filter(fits), ..Offer::default() }
        };
        Self {
            subgroup,
            f32: offer(wgpu::CooperativeScalarType::F32),
            f16: offer(wgpu::CooperativeScalarType::F16),
        }
    }

    fn offer(&self, element: Element) -> &Offer {
        match element {
            Element::F32 => &self.f32,
            Element::F16 => &self.f16,
        }
    }
}

impl Gpu {
    /// The device's subgroups, if kernels may use them. A program's own device needs the feature
    /// `SUBGROUP` for that.
    pub fn subgroup(&self) -> Option<Subgroup> {
        self.tiers.subgroup
    }

    /// The units that multiply matrices of `element`, if there are any that compute correctly. The
    /// first call checks that with one small product, since the feature is experimental. A program's
    /// own device needs the features `EXPERIMENTAL_COOPERATIVE_MATRIX` and `SUBGROUP`.
    pub fn matrix_units(&self, element: Element) -> Option<MatrixUnits> {
        let offer = self.tiers.offer(element);
        let units = offer.units.filter(|_| self.supports(element).is_ok())?;
        let correct = *offer.correct.get_or_init(|| self.matrix_units_are_correct(units, element));
        correct.then_some(units)
    }

    /// Returns whether matrix units compute correctly.
    #[cfg(not(target_arch = "wasm32"))]
    fn matrix_units_are_correct(&self, units: MatrixUnits, element: Element) -> bool {
        let trouble = match trust::matrices(self, units, element) {
            Ok(true) => return true,
            Ok(false) => "compute wrong results".to_string(),
            Err(error) => format!("fail: {error}"),
        };
        log::warn!("{}: the matrix units are not used in {element}: they {trouble}", self.adapter());
        false
    }

    /// Browsers offer no matrix units.
    #[cfg(target_arch = "wasm32")]
    fn matrix_units_are_correct(&self, _: MatrixUnits, _: Element) -> bool {
        false
    }

    /// Returns whether the device runs kernels of a tier, over maps of `element`.
    pub fn has(&self, tier: Tier, element: Element) -> bool {
        match tier {
            Tier::Baseline => self.supports(element).is_ok(),
            Tier::Subgroups => self.subgroup().is_some() && self.supports(element).is_ok(),
            Tier::Matrices => self.matrix_units(element).is_some(),
        }
    }
}
