/** Shows the document with Redoc. What upstreams write in it is not trusted. */

Redoc.init("openapi.json", { sanitize: true, hideDownloadButtons: false, nativeScrollbars: true }, document.getElementById("document"));
