//! Copied files that are links: what lies elsewhere on this host does not leave with a result, which people upload, unless
//! that is asked for.

use std::path::PathBuf;

use crate::error::plan::PlanError;
use crate::error::{Error, Result};
use crate::hub::blobs::is_blob_of;
use crate::note::Note;
use crate::note::side_file::SideFileNote;
use crate::plan::config_file::CONFIG;
use crate::plan::out_tensor::{CopiedFile, Role};
use crate::plan::planner::Planner;
use crate::storage::location::Location;
use crate::storage::store::Store;

/// Takes the files out that are links to elsewhere, and notes them.
///
/// # Errors
/// [`PlanError::LinkedConfig`] for the base's config, without which the result is none.
pub(crate) fn leave_out(
    planner: &Planner<'_>,
    copied: &mut Vec<CopiedFile>,
    notes: &mut Vec<Note>,
) -> Result<()> {
    if planner.follow_links {
        return Ok(());
    }
    let base = &planner.base.location;
    if let Some(target) = leads_out(base, CONFIG) {
        let error = PlanError::LinkedConfig { path: base.path_of(CONFIG), target };
        return Err(Error::new(error).hint("`--follow-links` merges and copies what links lead to"));
    }
    let dir = |role| match role {
        Role::Adapter(i) => &planner.adapters[i as usize].location,
        Role::Base | Role::Original | Role::Template => base,
    };
    keep_inside(dir, copied, notes);
    Ok(())
}

/// Takes the files out that are links to elsewhere than their directory, and notes them.
pub(crate) fn keep_inside<'l>(
    dir: impl Fn(Role) -> &'l Location,
    copied: &mut Vec<CopiedFile>,
    notes: &mut Vec<Note>,
) {
    let mut files = Vec::new();
    copied.retain(|file| {
        let is_inside = leads_out(dir(file.beside), &file.name).is_none();
        files.extend((!is_inside).then(|| file.name.clone()));
        is_inside
    });
    if !files.is_empty() {
        notes.push(SideFileNote::LinksLeftOut { files }.into());
    }
}

/// Where the file `name` of `dir` is, if that is neither below `dir` nor in the hub's cache that `dir` is in.
fn leads_out(dir: &Location, name: &str) -> Option<PathBuf> {
    let (home, target) = (dir.resolved("")?, dir.resolved(name)?);
    (!target.starts_with(&home) && !is_blob_of(&home, &target)).then_some(target)
}
