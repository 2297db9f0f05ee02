//! The checkpoint brought up to date: what the log's tail changes in it.

use super::Leases;
use super::entries;
use super::grant_keys;
use super::read_at;
use crate::codec::Link;
use crate::index::Edit;
use crate::index::Index;
use crate::index::Trouble;
use crate::index::Unfit;
use crate::interest::BoundKeys;
use crate::interest::GrantKeys;
use crate::pages::Entry;
use crate::pages::Key;
use crate::tail::Framed;
use crate::tail::Standing;

impl Leases {
    /// Changes what the tail changes.
    pub(super) fn update(&self, index: &mut Index, link: Link) -> Result<(), Trouble> {
        if !index.settled {
            return Err(Trouble::Unfit);
        }
        index.expect_several();
        let mut edit = index.edit();
        for (attempt, standing) in &self.tail.attempts {
            match standing {
                Standing::Granted { grant, bound } => {
                    self.forget(&mut edit, attempt)?;
                    let keys = grant_keys(grant).map_err(|_| Unfit)?;
                    let bound = bound.as_ref();
                    let container = bound.map(read_at::<BoundKeys<'_>>).transpose().map_err(|_| Unfit)?;
                    let container = container.map_or_else(|| keys.container.clone(), |keys| keys.container);
                    let bound = bound.map(|bound| bound.offset);
                    for entry in entries(edit.salt(), grant.offset, &keys, &container, bound) {
                        edit.insert(entry)?;
                    }
                    edit.count(1)?;
                }
                Standing::Bound(bound) => self.rebind(&mut edit, attempt, bound)?,
                Standing::Released => self.forget(&mut edit, attempt)?,
            }
        }
        let edited = edit.done();
        index.commit(edited, link)
    }

    /// Removes a grant that is given back or replaced.
    fn forget(&self, edit: &mut Edit<'_>, attempt: &str) -> Result<(), Unfit> {
        let Some((grant, bound)) = places(edit, attempt)? else { return Ok(()) };
        let payload = self.log.payload_at(grant).ok_or(Unfit)?;
        let keys = GrantKeys::read(&payload).map_err(|_| Unfit)?;
        let container = match bound {
            Some(bound) => self.bound_container(bound, attempt)?,
            None => keys.container.clone().into_owned(),
        };
        if keys.attempt != attempt {
            return Err(Unfit);
        }
        for entry in entries(edit.salt(), grant, &keys, &container, bound) {
            edit.remove(entry)?;
        }
        edit.count(-1)
    }

    /// Moves a grant to the container of its newest binding.
    fn rebind(&self, edit: &mut Edit<'_>, attempt: &str, bound: &Framed) -> Result<(), Unfit> {
        let Some((grant, before)) = places(edit, attempt)? else { return Ok(()) };
        let container = match before {
            Some(before) => self.bound_container(before, attempt)?,
            None => {
                let payload = self.log.payload_at(grant).ok_or(Unfit)?;
                let keys = GrantKeys::read(&payload).map_err(|_| Unfit)?;
                if keys.attempt != attempt {
                    return Err(Unfit);
                }
                keys.container.into_owned()
            }
        };
        let now = read_at::<BoundKeys<'_>>(bound).map_err(|_| Unfit)?;
        let salt = edit.salt();
        let key = Key::bound(salt, attempt);
        if let Some(offset) = before {
            edit.remove(Entry { key, offset })?;
        }
        edit.remove(Entry { key: Key::container(salt, &container), offset: grant })?;
        edit.insert(Entry { key, offset: bound.offset })?;
        edit.insert(Entry { key: Key::container(salt, &now.container), offset: grant })
    }

    fn bound_container(&self, offset: u64, attempt: &str) -> Result<String, Unfit> {
        let payload = self.log.payload_at(offset).ok_or(Unfit)?;
        let keys: BoundKeys<'_> = serde_json::from_slice(&payload).map_err(|_| Unfit)?;
        if keys.attempt == attempt { Ok(keys.container.into_owned()) } else { Err(Unfit) }
    }
}

/// Where an attempt's grant and its newest binding stand in the log.
fn places(edit: &mut Edit<'_>, attempt: &str) -> Result<Option<(u64, Option<u64>)>, Unfit> {
    let key = Key::attempt(edit.salt(), attempt);
    let (grants, bound) = (edit.find(key)?, edit.find(key.to_bound())?);
    match (&grants[..], &bound[..]) {
        ([], []) => Ok(None),
        ([grant], []) => Ok(Some((*grant, None))),
        ([grant], [bound]) => Ok(Some((*grant, Some(*bound)))),
        _ => Err(Unfit),
    }
}
