# All variants, from the top of the tree: docker buildx bake -f docker/postgres/docker-bake.hcl [slim-17 ha-16 ...]
#
# PostgreSQL 13 ... 18, each as slim (PostgreSQL alone) and ha (with Patroni). Variables of the environment:
# REPOSITORY and TAG of the images; BASE_IMAGE in place of the official image of each major.

variable "REPOSITORY" { default = "pgrouter" }
variable "TAG" { default = "" }
variable "BASE_IMAGE" { default = "" }

group "default" { targets = ["postgres"] }

target "postgres" {
  name    = "${variant}-${major}"
  matrix  = { major = ["13", "14", "15", "16", "17", "18"], variant = ["slim", "ha"] }
  dockerfile = "docker/postgres/Dockerfile"
  target  = variant
  args = {
    PG_MAJOR   = major
    BASE_IMAGE = BASE_IMAGE == "" ? "postgres:${major}-bookworm" : BASE_IMAGE
  }
  tags = ["${REPOSITORY}/${variant == "ha" ? "postgres-patroni" : "postgres"}:${major}${TAG}"]
}
