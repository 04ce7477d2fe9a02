/** The token: got from the gateway or pasted, read, and renewed when it is about to end. It is kept in memory only. */

/** What went wrong, in words that say what to do. */
export class SignInError extends Error {}

const SHAPE = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*$/;

export class Token {
  /** @param {string} value @param {{sub: string, company?: string, ttl: number}|null} wish how to get another one */
  constructor(value, wish = null) {
    this.value = value;
    this.wish = wish;
    this.claims = claimsOf(value);
  }

  /** Asks the gateway for one. Throws SignInError. */
  static async mint(wish) {
    let response;
    try {
      response = await fetch("token", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(wish),
      });
    } catch {
      throw new SignInError(`The gateway does not answer at ${location.origin}. Start it (make demo), then try again.`);
    }
    const answer = await response.json().catch(() => ({}));
    if (response.ok) return new Token(answer.token, wish);
    if (response.status === 404 || response.status === 405) {
      throw new SignInError(
        "This gateway makes no tokens, for its secret is its own and not one of development. " +
          "Open “I have a token” and paste one; tidegate token --sub 42 makes it, with --config or --preset.",
      );
    }
    throw new SignInError(`No token was made: ${answer.detail ?? `status ${response.status}`}`);
  }

  /** Takes one that was pasted, with or without a `Bearer` before it. Throws SignInError. */
  static paste(text) {
    const value = text.trim().replace(/^bearer\s+/i, "");
    if (!SHAPE.test(value)) {
      throw new SignInError(
        "This is not a JSON Web Token, which is three parts joined by dots. " +
          "Copy it whole, or make one with: tidegate token --sub 42",
      );
    }
    return new Token(value);
  }

  /** Seconds until it ends by this machine's clock; null when it does not end. */
  left() {
    return typeof this.claims.exp === "number" ? this.claims.exp - Date.now() / 1000 : null;
  }
}

function claimsOf(value) {
  try {
    const middle = value.split(".")[1].replace(/-/g, "+").replace(/_/g, "/");
    const bytes = Uint8Array.from(atob(middle), (character) => character.charCodeAt(0));
    const claims = JSON.parse(new TextDecoder().decode(bytes));
    if (claims && typeof claims === "object") return claims;
  } catch {
    // Told below.
  }
  throw new SignInError("The token's middle part is not readable. Copy it whole, to its last character.");
}

/** What to do about a refusal of the gateway. @param {import("./connection.js").TidegateError} error */
export function cure(error) {
  switch (error.code) {
    case "token_expired":
      return "The token has expired. Sign in for a new one, or paste a fresh one.";
    case "invalid_token":
    case "unauthenticated":
      return `The gateway refused the token: ${error.message} Sign in with a new one, or paste one made for this gateway.`;
    case "connection_lost":
      return `The gateway does not answer at ${location.origin}. Start it (make demo), then try again.`;
    default:
      return `${error.message} (${error.code})`;
  }
}
