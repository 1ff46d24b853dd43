// A model that is loaded with the fake engine: what most tests of the package begin with.

import { open } from "./helpers.mjs";

/** The address of the model's folder. */
export const MODEL = "/models/fake/";
/** The only file of the folder. */
export const CONFIG = JSON.stringify({ model_type: "qwen2_5_vl" });

/**
 * For `page.route`s of a page: serves the model's folder. `config` stands in its `config.json`; `respond(route, name)` answers in place of
 * the folder.
 */
export const serving = (config = {}, respond = undefined) => (page) =>
  page.route(`**${MODEL}*`, (route) => {
    const name = new URL(route.request().url()).pathname.slice(MODEL.length);
    if (respond) return respond(route, name);
    const body = JSON.stringify({ ...JSON.parse(CONFIG), ...config });
    return name === "config.json" ? route.fulfill({ body }) : route.fulfill({ status: 404 });
  });

/** A page whose package loads the fake engine and this model. `config`: more of `config.json`; `setup`: more to do with the page. */
export const fakeModel = (t, { config, respond, setup, ...options } = {}) =>
  open(t, {
    engine: "fake",
    ...options,
    setup: async (page) => {
      await serving(config, respond)(page);
      await setup?.(page);
    },
  });
