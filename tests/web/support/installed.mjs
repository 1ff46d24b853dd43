// The package as people have it: packed by npm and installed once, by `cargo xtask test`.

import { cp } from "node:fs/promises";
import { join } from "node:path";

import { required } from "./browser.mjs";

/** A file of the installed package. */
export const installed = (...path) => join(required("FANLIGHT_INSTALLED"), ...path);

/** Puts the package into a project, as `npm install fanlight` leaves it there. */
export const installInto = (project) => cp(installed(), join(project, "node_modules/fanlight"), { recursive: true });
