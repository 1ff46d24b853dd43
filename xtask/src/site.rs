//! Builds wasm and TypeScript into `www/dist`, a folder with everything that the page needs.

use std::path::{Path, PathBuf};

use crate::Outcome;
use crate::process::{cargo, command, copy, npm, read, root, run, write};
use crate::setup::{Tools, WASM};

/// Builds the page and returns the folder to serve.
pub fn build(tools: &Tools) -> Outcome<PathBuf> {
    let www = root().join("www");
    let dist = www.join("dist");
    // The grammar module is fetched when a prompt first constrains its answer.
    let modules = [compile_wasm(tools, "fanlight", &[])?, compile_wasm(tools, "fanlight-grammar", &[])?];
    // Delete the files of an earlier build. The wasm folder is kept, since its step checks whether it is current.
    for entry in std::fs::read_dir(&dist).into_iter().flatten().flatten() {
        if entry.file_name() != "wasm" {
            let path = entry.path();
            let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            removed.map_err(|e| format!("{}: {e}", path.display()))?;
        }
    }
    for module in &modules {
        bind(module, &dist.join("wasm"))?;
    }
    run(command("node").args(["www/node_modules/typescript/bin/tsc", "--project", "www"]))?;
    copy(&www, &dist, &|path| {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
        !name.starts_with('.')
            && !name.starts_with("LICENSE")
            && !["node_modules", "dist", "package.json", "package-lock.json", "tsconfig.json"].contains(&name)
            && !["ts", "md", "mjs"].contains(&extension)
    })?;
    run(command("node").args(["www/api/make.mjs", "www/dist/api/index.html"]))?;
    // Mediabunny as its authors bundle it, which is loaded with the first video. Its licence goes with it.
    let mediabunny = www.join("node_modules/mediabunny");
    copy(&mediabunny.join("dist/bundles/mediabunny.min.mjs"), &dist.join("mediabunny/mediabunny.js"), &|_| true)?;
    copy(&mediabunny.join("LICENSE"), &dist.join("mediabunny/LICENSE"), &|_| true)?;
    copy(&root().join("models/screen-reader"), &dist.join("models/screen-reader"), &|_| true)?;
    run(command("node").args(["xtask/notices.mjs", "www/dist/NOTICES.txt"]))?;
    // In this form Cloudflare Pages, Netlify and others read which headers they are to send.
    write(
        &dist.join("_headers"),
        &format!("/*\n  Content-Security-Policy: {}\n  X-Content-Type-Options: nosniff\n", policy()?),
    )?;
    // Last, write the list of all files, by which the page's service worker caches one complete version.
    run(command("node").args(["xtask/precache.mjs", "www/dist"]))?;
    Ok(dist)
}

/// The Content-Security-Policy that a server should send with every file of the page. The page has the same policy in a `<meta>`, but that
/// binds neither the worker, which reads everything from outside, nor those who put the page into a frame.
pub fn policy() -> Outcome<String> {
    let page = read(&root().join("www/index.html"))?;
    let policy = page.split("http-equiv=\"Content-Security-Policy\"").nth(1).and_then(|rest| rest.split('"').nth(1));
    let policy = policy.ok_or("www/index.html has no Content-Security-Policy")?;
    Ok(format!("{policy}; frame-ancestors 'none'"))
}

/// Makes the npm package as people install it, from the result of `build`. Returns the tarball.
pub fn pack() -> Outcome<PathBuf> {
    let (www, out) = (root().join("www"), root().join("target/package"));
    for license in ["LICENSE-APACHE", "LICENSE-MIT"] {
        copy(&root().join(license), &www.join(license), &|_| true)?;
    }
    if out.exists() {
        std::fs::remove_dir_all(&out).map_err(|e| format!("{}: {e}", out.display()))?;
    }
    std::fs::create_dir_all(&out).map_err(|e| format!("{}: {e}", out.display()))?;
    let mut npm = npm();
    npm.args(["pack", "--ignore-scripts", "--loglevel=error", "--pack-destination"]).arg(&out).current_dir(&www);
    run(&mut npm)?;
    let made = std::fs::read_dir(&out).map_err(|e| format!("{}: {e}", out.display()))?.flatten().next();
    made.map(|entry| entry.path()).ok_or_else(|| "npm pack did not make a tarball".to_owned())
}

/// Installs the package into an empty project, as people do; returns the folder of the installed package.
pub fn install(tarball: &Path) -> Outcome<PathBuf> {
    let project = root().join("target/installed");
    if project.exists() {
        std::fs::remove_dir_all(&project).map_err(|e| format!("{}: {e}", project.display()))?;
    }
    std::fs::create_dir_all(&project).map_err(|e| format!("{}: {e}", project.display()))?;
    write(&project.join("package.json"), "{ \"private\": true, \"type\": \"module\" }")?;
    let mut npm = npm();
    npm.args(["install", "--no-save", "--ignore-scripts", "--offline", "--no-audit", "--no-fund", "--loglevel=error"]);
    run(npm.arg(tarball).current_dir(&project))?;
    Ok(project.join("node_modules/fanlight"))
}

/// Builds the kernel tests as a separate wasm module, which is not part of the package. Returns the folder to serve.
pub fn build_kernel_tests(tools: &Tools) -> Outcome<PathBuf> {
    let out = root().join("target/wasm/kernels");
    // It is not shipped, so it need not be small: the quick kind of link-time optimisation takes a third of the time.
    bind(&compile_wasm(tools, "fanlight-kernel-tests", &["-C", "lto=thin", "-C", "codegen-units=16"])?, &out)?;
    Ok(out)
}

/// Compiles a package's library to wasm, as it is shipped but for `flags` of the compiler. Warnings are errors, also for
/// toolchains without clippy.
fn compile_wasm(tools: &Tools, package: &str, flags: &[&str]) -> Outcome<PathBuf> {
    let (mut cargo, build_std) = tools.wasm.cargo();
    let folder = root().join("target/wasm");
    // `rustc --crate-type` does not build the rlib, which halves the time with link-time optimisation.
    cargo.args(["rustc", "--package", package, "--lib", "--crate-type", "cdylib", "--locked", "--profile", "wasm"]);
    cargo
        .args(["--target", WASM])
        .args(build_std)
        .arg("--target-dir")
        .arg(&folder)
        .args(["--", "-D", "warnings"])
        .args(flags);
    run(&mut cargo)?;
    Ok(folder.join(WASM).join("wasm").join(package.replace('-', "_")).with_extension("wasm"))
}

/// Writes the JavaScript side of the module, unless it is already newer than the module.
fn bind(module: &Path, out: &Path) -> Outcome {
    let time = |path: &Path| path.metadata().and_then(|m| m.modified()).ok();
    let bound = format!("{}_bg.wasm", module.file_stem().unwrap_or_default().to_string_lossy());
    let (source, product) = (time(module), time(&out.join(bound)));
    if source.is_some() && product > source {
        return Ok(());
    }
    let mut bindgen = cargo();
    bindgen.args(["run", "--quiet", "--locked", "--profile", "tools", "--package", "xtask", "--features", "bindgen"]);
    run(bindgen.args(["--bin", "bindgen", "--"]).arg(module).arg(out))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_policy_is_that_of_the_page_and_forbids_frames() {
        let policy = super::policy().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'"), "{policy}");
        assert!(policy.ends_with("; frame-ancestors 'none'") && !policy.contains('\n'), "{policy}");
    }
}
