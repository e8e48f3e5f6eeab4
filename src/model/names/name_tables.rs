//! The sets of names that a checkpoint's tensors may have, one for every set of rules it may have been written under.
//!
//! A set of 92,000 names takes a tenth of a second and 3 MB, and every adapter of a merge reads several: each is made when it
//! is first asked for and then shared, and sets of equal names share their lists.

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;

use crate::checkpoint::config::Config;
use crate::checkpoint::ecosystem::Library;

use crate::model::names::class_rules::{ClassRules, class_rules};
use crate::model::names::disk::Disk;
use crate::model::names::geometry::Geometry;
use crate::model::names::name_table::NameTable;
use crate::model::names::rules::Rules;

/// One of the sets: which rules give it.
pub struct TableRules {
    /// The rules.
    pub rules: Arc<Rules>,
    /// Which candidate they are of.
    pub candidate: usize,
    /// Whether they are all of its rules.
    pub is_all: bool,
}

/// All sets of names of one checkpoint.
pub struct NameTables<'a> {
    /// The weights that the names are of.
    pub disk: &'a dyn Disk,
    /// The checkpoint's config.
    pub config: &'a Config,
    geometry: Arc<Geometry>,
    candidates: Vec<ClassRules>,
    name_tables: Vec<TableRules>,
    made: Vec<OnceCell<Rc<NameTable<'a>>>>,
}

impl<'a> NameTables<'a> {
    /// The names as they are, then after some and after all rules of every candidate. Nothing is made yet.
    pub fn new(disk: &'a dyn Disk, config: &'a Config) -> NameTables<'a> {
        let candidates = class_rules(config);
        let mut name_tables = vec![TableRules { rules: Arc::default(), candidate: 0, is_all: false }];
        for (candidate, ClassRules { unscoped, all, .. }) in candidates.iter().enumerate() {
            let sets = [(unscoped, false), (all, true)];
            let sets = sets.into_iter().filter(|(rules, is_all)| *is_all || !Arc::ptr_eq(rules, all));
            name_tables.extend(sets.map(|(rules, is_all)| TableRules {
                rules: rules.clone(),
                candidate,
                is_all,
            }));
        }
        let made = name_tables.iter().map(|_| OnceCell::new()).collect();
        NameTables { disk, config, geometry: Arc::new(Geometry::of(config)), candidates, name_tables, made }
    }

    /// The sets, in the order in which they are tried.
    pub fn list(&self) -> &[TableRules] {
        &self.name_tables
    }

    /// The names of one set.
    pub fn get(&self, table: usize) -> Rc<NameTable<'a>> {
        let make = || {
            let rules = self.name_tables[table].rules.clone();
            let made = NameTable::new(self.disk, rules, self.geometry.clone());
            let others = self.made.iter().filter_map(OnceCell::get);
            Rc::new(made.sharing(others.map(Rc::as_ref)))
        };
        self.made[table].get_or_init(make).clone()
    }

    /// Forgets what was made; a set that is asked for again is made again.
    pub(crate) fn forget(&mut self) {
        self.made.iter_mut().for_each(|made| drop(made.take()));
    }

    /// Whether no set before it, of those that are made, has the same names.
    pub fn is_first(&self, table: usize) -> bool {
        let own = self.get(table);
        self.made[..table].iter().filter_map(OnceCell::get).all(|other| !own.has_names_of(other))
    }

    /// The path of the base model by the rules of a set.
    pub fn base(&self, table: usize) -> &str {
        &self.candidates[self.name_tables[table].candidate].base
    }

    /// Whose rules a set has, for messages; empty for none.
    pub fn label(&self, table: usize) -> &str {
        if table == 0 { "" } else { &self.candidates[self.name_tables[table].candidate].label }
    }

    /// The library whose names a set has.
    pub fn library(&self, table: usize) -> &'static Library {
        self.candidates[self.name_tables[table].candidate].library
    }

    /// What the config says of sizes.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }
}
