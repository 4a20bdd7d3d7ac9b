//! What routes and guest tests share: a fake machine, and NVDIMM media as Linux left them.
//!
//! The routes in `tests/` take bytes of firmware and media through nfit, nvdimm, dax and mm to page-table
//! entries over fake RAM. The binary `suite` runs those and every other host test, then the guest table.

pub mod fake;
pub mod media;
