//! What an uploaded file is, and whether it may be compiled at all.
//!
//! This is the only part of the upload path that reads hostile bytes inside the serving process,
//! so it makes one linear pass over section headers, does not recurse on the input, holds nothing
//! larger than the export names, and validates nothing: full validation belongs to the compiler,
//! which runs in a process of its own (see `compile`). A file that passes may still be invalid.
//! What passes is bounded in everything that compile time and instance size grow with.

mod names;

use wasmparser::{
    BinaryReaderError, ComponentExternalKind, FunctionBody, MemorySectionReader, Parser, Payload,
    TableSectionReader,
};

use self::names::{Names, shown};
use super::hook::{BESIDE_EVICTION, Hook, PACKAGE, PACKAGE_VERSION};
use super::refusal::{Refusal, RefusalKind};

const BUILD_HINT: &str = "build the policy with `larder policy build`, or with cargo for \
    wasm32-unknown-unknown and CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=wasm-component-ld";

/// How large an upload may be, in itself and in its parts.
///
/// The size cap bounds transfer, storage and the linear part of compiling. It is far from the
/// danger on purpose: policies written in Rust are 25 to 60 KB, and one that brings a regular
/// expression engine along should still fit. What makes compiling explode is a single huge
/// function, because register allocation is superlinear in its length (one body of 878 KiB takes
/// 14 s), and that is what `body_bytes` bounds: the same instructions in fifteen bodies of the
/// largest allowed size take about 1 s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the file.
    pub component_bytes: usize,
    /// Bytes of one function body.
    pub body_bytes: usize,
    /// Function bodies in the whole file; each costs a fixed amount beside its length.
    pub functions: usize,
    /// Local variables of one function; phi nodes grow with locals times blocks.
    pub locals: u64,
    /// Types, imports, exports, globals, segments, aliases, instances and canonical functions in
    /// the whole file. They cost the serving process when the compiled artefact is loaded.
    pub definitions: u64,
    /// Linear memory a fresh instance starts with, in bytes.
    pub memory_bytes: u64,
    /// Table elements a fresh instance starts with.
    pub table_elements: u64,
    /// Components and modules within each other.
    pub nesting: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            component_bytes: 1 << 20,
            body_bytes: 64 << 10,
            functions: 5_000,
            locals: 4_096,
            definitions: 20_000,
            memory_bytes: 4 << 20,
            table_elements: 10_000,
            nesting: 8,
        }
    }
}

/// Finds the hooks that the component in `bytes` offers, in the order of [`Hook::ALL`].
///
/// # Errors
/// The file is not a component, is larger than `limits` in some part, imports anything, offers no
/// hook, or offers one in a version that this host does not speak.
pub fn inspect(bytes: &[u8], limits: &Limits) -> Result<Vec<Hook>, Refusal> {
    if bytes.len() > limits.component_bytes {
        return Err(Refusal::new(
            RefusalKind::TooLarge,
            "policy_too_large",
            format!(
                "the policy has {} bytes; {} are allowed",
                bytes.len(),
                limits.component_bytes
            ),
            "build in release mode with `strip = true` and `lto = \"fat\"`, or raise the limit",
        ));
    }
    check_preamble(bytes)?;
    let mut scan = Scan::new(limits);
    for payload in Parser::new(0).parse_all(bytes) {
        payload
            .map_err(malformed)
            .and_then(|payload| scan.payload(&payload))?;
    }
    scan.hooks()
}

/// Tells a component from everything else by its first eight bytes.
fn check_preamble(bytes: &[u8]) -> Result<(), Refusal> {
    const MAGIC: &[u8] = b"\0asm";
    // A 16-bit version and a 16-bit layer; the component model binary format, version 0xd.
    const COMPONENT: &[u8] = &[0x0d, 0, 1, 0];
    const CORE_MODULE: &[u8] = &[1, 0, 0, 0];
    let Some(version) = bytes.strip_prefix(MAGIC) else {
        let what = if bytes.is_empty() {
            "the upload is empty"
        } else if bytes.trim_ascii_start().starts_with(b"(") {
            "the upload is WebAssembly text, not a binary"
        } else {
            "the upload is not WebAssembly"
        };
        return Err(Refusal::new(
            RefusalKind::Malformed,
            "not_wasm",
            what,
            BUILD_HINT,
        ));
    };
    match version.get(..4) {
        Some(COMPONENT) => Ok(()),
        Some(CORE_MODULE) => Err(Refusal::unacceptable(
            "core_module",
            "the upload is a core module; a policy is a component",
            BUILD_HINT,
        )),
        Some(other) => Err(Refusal::unacceptable(
            "unknown_encoding",
            format!("the upload has an unknown WebAssembly encoding ({other:02x?})"),
            BUILD_HINT,
        )),
        None => Err(truncated(bytes.len())),
    }
}

fn truncated(offset: usize) -> Refusal {
    Refusal::unacceptable(
        "truncated",
        format!("the component ends in the middle of a section, at byte {offset}"),
        "the file is cut short: build or copy it again",
    )
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn malformed(error: BinaryReaderError) -> Refusal {
    let offset = error.offset();
    if error.message().starts_with("unexpected end") {
        return truncated(offset);
    }
    Refusal::unacceptable(
        "malformed",
        format!(
            "the component is malformed at byte {offset}: {}",
            error.message()
        ),
        BUILD_HINT,
    )
}

/// Running totals of one pass.
#[derive(Debug)]
struct Scan<'a> {
    limits: &'a Limits,
    /// Components and modules that enclose the current section, the file itself included.
    depth: usize,
    functions: usize,
    definitions: u64,
    memory_bytes: u64,
    table_elements: u64,
    imports: Names<'a>,
    exports: Names<'a>,
    hooks: Vec<Hook>,
    beside_eviction: Vec<&'static str>,
}

impl<'a> Scan<'a> {
    fn new(limits: &'a Limits) -> Self {
        Self {
            limits,
            depth: 0,
            functions: 0,
            definitions: 0,
            memory_bytes: 0,
            table_elements: 0,
            imports: Names::default(),
            exports: Names::default(),
            hooks: Vec::new(),
            beside_eviction: Vec::new(),
        }
    }

    fn payload(&mut self, payload: &Payload<'a>) -> Result<(), Refusal> {
        if let Some(count) = definitions(payload) {
            self.definitions = self.definitions.saturating_add(u64::from(count));
            within(self.definitions, self.limits.definitions, "definitions")?;
        }
        match payload {
            Payload::Version { .. } => {
                self.depth = self.depth.saturating_add(1);
                within(
                    self.depth,
                    self.limits.nesting,
                    "levels of nested components and modules",
                )
            }
            Payload::End(_) => {
                self.depth = self.depth.saturating_sub(1);
                Ok(())
            }
            Payload::CodeSectionStart { count, .. } => {
                let count = usize::try_from(*count).unwrap_or(usize::MAX);
                self.functions = self.functions.saturating_add(count);
                within(self.functions, self.limits.functions, "functions")
            }
            Payload::CodeSectionEntry(body) => self.body(body),
            Payload::MemorySection(memories) => self.memories(memories.clone()),
            Payload::TableSection(tables) => self.tables(tables.clone()),
            Payload::StartSection { .. } | Payload::ComponentStartSection { .. } => {
                Err(Refusal::unacceptable(
                    "start_function",
                    "the component runs code when it is instantiated",
                    "set up in `configure`; a policy must not have a start function",
                ))
            }
            Payload::ComponentImportSection(imports) if self.depth == 1 => {
                for import in imports.clone() {
                    self.imports.push(import.map_err(malformed)?.name.name);
                }
                Ok(())
            }
            Payload::ComponentExportSection(exports) if self.depth == 1 => {
                for export in exports.clone() {
                    let export = export.map_err(malformed)?;
                    self.export(export.name.name, export.kind)?;
                }
                Ok(())
            }
            Payload::UnknownSection { id, .. } => Err(Refusal::unacceptable(
                "malformed",
                format!("the component has a section of unknown kind {id}"),
                BUILD_HINT,
            )),
            _ => Ok(()),
        }
    }

    fn memories(&mut self, memories: MemorySectionReader<'_>) -> Result<(), Refusal> {
        for memory in memories {
            let memory = memory.map_err(malformed)?;
            // Pages have 2^16 bytes unless the custom-page-sizes proposal is used.
            let page = 1_u64
                .checked_shl(memory.page_size_log2.unwrap_or(16))
                .unwrap_or(u64::MAX);
            let bytes = memory.initial.saturating_mul(page);
            self.memory_bytes = self.memory_bytes.saturating_add(bytes);
        }
        within(
            self.memory_bytes,
            self.limits.memory_bytes,
            "bytes of initial memory",
        )
    }

    fn tables(&mut self, tables: TableSectionReader<'_>) -> Result<(), Refusal> {
        for table in tables {
            let initial = table.map_err(malformed)?.ty.initial;
            self.table_elements = self.table_elements.saturating_add(initial);
        }
        within(
            self.table_elements,
            self.limits.table_elements,
            "initial table elements",
        )
    }

    fn body(&self, body: &FunctionBody<'_>) -> Result<(), Refusal> {
        let range = body.range();
        let length = range.end.saturating_sub(range.start);
        within(length, self.limits.body_bytes, "bytes in one function")?;
        let mut locals = 0_u64;
        for group in body.get_locals_reader().map_err(malformed)? {
            let (count, _) = group.map_err(malformed)?;
            locals = locals.saturating_add(u64::from(count));
        }
        within(
            locals,
            self.limits.locals,
            "local variables in one function",
        )
    }

    fn export(&mut self, name: &'a str, kind: ComponentExternalKind) -> Result<(), Refusal> {
        self.exports.push(name);
        let Some(interface) = name
            .strip_prefix(PACKAGE)
            .and_then(|rest| rest.strip_prefix('/'))
        else {
            return Ok(());
        };
        let (interface, version) = interface.split_once('@').unwrap_or((interface, ""));
        if !is_compatible(version) {
            return Err(Refusal::unacceptable(
                "wrong_version",
                format!(
                    "the component exports {}; this Larder speaks version {PACKAGE_VERSION}",
                    shown(name)
                ),
                format!("build the policy against {PACKAGE}@{PACKAGE_VERSION}"),
            ));
        }
        let is_interface = kind == ComponentExternalKind::Instance;
        let unversioned = |name: &'static str| name.split('@').next();
        let mut beside = BESIDE_EVICTION.into_iter();
        if let Some(beside) = beside.find(|it| unversioned(it) == name.split('@').next()) {
            if !is_interface || self.beside_eviction.contains(&beside) {
                return Err(bad_export(name));
            }
            self.beside_eviction.push(beside);
            return Ok(());
        }
        let Ok(hook) = interface.parse::<Hook>() else {
            return Err(Refusal::unacceptable(
                "unknown_hook",
                format!(
                    "the component exports {}, a hook that this Larder would never call",
                    shown(name)
                ),
                format!("the hooks are {}", hook_interfaces()),
            ));
        };
        if !is_interface || self.hooks.contains(&hook) {
            return Err(bad_export(name));
        }
        self.hooks.push(hook);
        Ok(())
    }

    fn hooks(self) -> Result<Vec<Hook>, Refusal> {
        if self.imports.count > 0 {
            let hint = if self.imports.any_wasi {
                "build for wasm32-unknown-unknown, not for wasm32-wasip1 or wasm32-wasip2; `larder policy build` does"
            } else {
                "a policy gets everything it may know as arguments; remove the import from its world"
            };
            let message = format!(
                "a policy may import nothing; this one imports {}",
                self.imports
            );
            return Err(Refusal::unacceptable("imports", message, hint));
        }
        if let Some(beside) = self.beside_eviction.first()
            && !self.hooks.contains(&Hook::Eviction)
        {
            return Err(Refusal::unacceptable(
                "bad_export",
                format!("the component exports {beside} without eviction, so nobody would ask it"),
                format!("export {} besides", Hook::Eviction.interface()),
            ));
        }
        if self.hooks.is_empty() {
            let message = match self.exports.count {
                0 => "the component exports nothing, so it offers no hook".to_owned(),
                _ => format!("the component offers no hook; it exports {}", self.exports),
            };
            let hint = format!("a policy exports at least one of {}", hook_interfaces());
            return Err(Refusal::unacceptable("no_hook", message, hint));
        }
        let mut hooks = self.hooks;
        hooks.sort_unstable();
        Ok(hooks)
    }
}

fn bad_export(name: &str) -> Refusal {
    Refusal::unacceptable(
        "bad_export",
        format!(
            "the component must export {} once, as an interface",
            shown(name)
        ),
        BUILD_HINT,
    )
}

/// The number of things a section defines, where that number is bounded in common.
fn definitions(payload: &Payload<'_>) -> Option<u32> {
    Some(match payload {
        Payload::TypeSection(section) => section.count(),
        Payload::ImportSection(section) => section.count(),
        Payload::TableSection(section) => section.count(),
        Payload::MemorySection(section) => section.count(),
        Payload::TagSection(section) => section.count(),
        Payload::GlobalSection(section) => section.count(),
        Payload::ExportSection(section) => section.count(),
        Payload::ElementSection(section) => section.count(),
        Payload::DataSection(section) => section.count(),
        Payload::InstanceSection(section) => section.count(),
        Payload::CoreTypeSection(section) => section.count(),
        Payload::ComponentInstanceSection(section) => section.count(),
        Payload::ComponentAliasSection(section) => section.count(),
        Payload::ComponentTypeSection(section) => section.count(),
        Payload::ComponentCanonicalSection(section) => section.count(),
        Payload::ComponentImportSection(section) => section.count(),
        Payload::ComponentExportSection(section) => section.count(),
        _ => return None,
    })
}

/// Refuses a `found` above its `limit`.
fn within<N: Copy + PartialOrd + std::fmt::Display>(
    found: N,
    limit: N,
    what: &str,
) -> Result<(), Refusal> {
    if found <= limit {
        return Ok(());
    }
    Err(Refusal::unacceptable(
        "compile_limit",
        format!("the component has {found} {what}; {limit} are allowed"),
        "split large functions, and leave out what the policy does not use",
    ))
}

/// Whether an interface of `version` can be called by this host: the same 0.1, no pre-release.
/// Patch versions only add interfaces, so they match in both directions.
fn is_compatible(version: &str) -> bool {
    let patch = version.strip_prefix("0.1.");
    patch.is_some_and(|patch| !patch.is_empty() && patch.bytes().all(|byte| byte.is_ascii_digit()))
}

fn hook_interfaces() -> String {
    Hook::ALL.map(Hook::interface).join(", ")
}

#[cfg(test)]
pub(super) mod fixtures;
#[cfg(test)]
mod tests;
