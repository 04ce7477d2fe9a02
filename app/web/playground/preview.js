/**
 * What runs in the playground's preview frame, `/playground/preview`: shows a page of code that somebody's model wrote.
 *
 * No script of that page runs and nothing of it is fetched. Since no script runs, what scripts would do is done here, as
 * far as it can be read off the text: React's markup becomes HTML, and Tailwind's classes with values in brackets, which
 * are what the code service writes, become styles.
 */
"use strict";

const WORDS = {
  flex: "display:flex",
  grid: "display:grid",
  block: "display:block",
  "flex-col": "flex-direction:column",
  "flex-wrap": "flex-wrap:wrap",
  "m-0": "margin:0",
  "items-center": "align-items:center",
  "items-start": "align-items:flex-start",
  "justify-center": "justify-content:center",
  "justify-between": "justify-content:space-between",
  "self-center": "align-self:center",
  relative: "position:relative",
  absolute: "position:absolute",
  "font-bold": "font-weight:700",
  "min-h-screen": "min-height:100vh",
  "text-center": "text-align:center",
  "cursor-pointer": "cursor:pointer",
  "border-0": "border:none",
  "box-border": "box-sizing:border-box",
  "object-cover": "object-fit:cover",
  "ml-auto": "margin-left:auto",
};
const NAMES = {
  w: "width",
  h: "height",
  m: "margin",
  ml: "margin-left",
  mt: "margin-top",
  mr: "margin-right",
  mb: "margin-bottom",
  p: "padding",
  pt: "padding-top",
  pb: "padding-bottom",
  pl: "padding-left",
  pr: "padding-right",
  px: "padding-inline",
  py: "padding-block",
  left: "left",
  top: "top",
  gap: "gap",
  bg: "background",
  leading: "line-height",
  "max-w": "max-width",
  "min-h": "min-height",
  rounded: "border-radius",
  "grid-cols": "grid-template-columns",
};

/** @param {string} code HTML, or a React or Vue component, perhaps not yet whole @returns {HTMLElement} a page's root */
function pageOf(code) {
  const markup = markupOf(code);
  const page = new DOMParser().parseFromString(markup, "text/html"); // Its scripts do not run.
  for (const active of page.querySelectorAll("script, iframe, object, embed, base, link, meta")) active.remove();
  for (const element of page.querySelectorAll("*")) {
    for (const { name } of [...element.attributes]) if (name.startsWith("on")) element.removeAttribute(name);
  }
  for (const element of page.querySelectorAll("[class]")) {
    const styles = [...element.classList].map(styleOf).filter(Boolean).join(";");
    if (styles) element.setAttribute("style", `${styles};${element.getAttribute("style") ?? ""}`);
  }
  return page.documentElement;
}

function markupOf(code) {
  const vue = code.match(/<template>([^]*?)(?:<\/template>\s*(?:<script|$)|$)/);
  const react = code.match(/return \(([^]*?)(?:\n {2}\);|$)/);
  if (/^\s*(\/\/.*\n)*export default function/.test(code)) return react ? fromJsx(react[1]) : "";
  return vue && !/<html/i.test(code) ? fromVue(vue[1]) : code;
}

function fromJsx(markup) {
  return opened(markup)
    .replaceAll("className=", "class=")
    .replace(/\{("(?:[^"\\]|\\.)*")\}/g, (whole, text) => {
      try {
        return escaped(JSON.parse(text));
      } catch {
        return whole;
      }
    });
}

const fromVue = (markup) => opened(markup);

/** `<div />` closes itself there, but not in HTML. */
function opened(markup) {
  return markup.replace(/<(?!img|input|br|hr)([a-z][a-z0-9]*)((?:\s+[\w-]+="[^"]*")*)\s*\/>/g, "<$1$2></$1>");
}

const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");

function styleOf(name) {
  if (WORDS[name]) return WORDS[name];
  const [, prefix, value] = name.match(/^([a-z-]*)-?\[([^\]]+)\]$/)?.map((part) => part.replaceAll("_", " ")) ?? [];
  if (value === undefined) return "";
  const key = prefix.replace(/-$/, "");
  if (!key) return /^[a-z-]+:/.test(value) ? value : "";
  if (key === "text") return `${/^[\d.]/.test(value) ? "font-size" : "color"}:${value}`;
  return NAMES[key] ? `${NAMES[key]}:${value}` : "";
}

addEventListener("message", ({ data, source }) => {
  if (source !== parent || typeof data !== "string") return;
  document.documentElement.replaceWith(document.adoptNode(pageOf(data)));
});
