/* Virtio over PCI (virtio 1.2, 4.1): the classes "virtio-NAME-pci", "-transitional" and "-non-transitional" of a
 * device, made from its virtio_info. */
#ifndef RHEA_DEVICE_VIRTIO_PCI_H
#define RHEA_DEVICE_VIRTIO_PCI_H

#include "rhea/device/virtio.h"
#include "rhea/vm/pci.h"

enum virtio_pci_mode { VIRTIO_PCI_AUTO, VIRTIO_PCI_TRANSITIONAL, VIRTIO_PCI_MODERN };
struct virtio_pci_class {
    struct pci_info pci;        /* first: what the "pci-device" kind reads */
    const struct virtio_info *info;
    const char *backend;        /* class of the child */
    enum virtio_pci_mode mode;
};

/* The virtio device itself, given it or its PCI proxy (for object properties, which both classes have). NULL: a proxy
 * that is not realized. */
struct virtio_device *virtio_backend(struct device *dev);

/* What all four classes share. NAME: "virtio-blk"; TYPE begins with struct virtio_front. The rest (realize, unrealize,
 * ...) is of the device's own class. */
#define VIRTIO_PCI_CLASS(NAME, SUFFIX, ALIAS, MODE, TYPE, CATEGORY, SUMMARY, INFO, PCI_CLASS_CODE, PROPS, OBJECT_PROPS)     \
    DEVICE = {                                                                                                       \
        .name = NAME "-pci" SUFFIX, .parent = "virtio-pci", .bus = "PCI", .category = CATEGORY, .summary = SUMMARY,  \
        .alias = ALIAS, .size = sizeof(TYPE), .hotpluggable = true, .user_creatable = true, .props = PROPS,          \
        .object_props = OBJECT_PROPS,                                                                                \
        .kind_data = &(const struct virtio_pci_class){                                                               \
            .pci = { .vendor = 0x1af4, .device = 0x1040, .subsystem_vendor = 0x1af4, .subsystem_id = 0x1100,         \
                     .class_code = PCI_CLASS_CODE, .express = true, .intx = true,                                    \
                     .config_written = virtio_pci_config_written, .config_read = virtio_pci_config_read },           \
            .info = INFO, .backend = NAME "-device", .mode = MODE },                                                 \
    }
#define VIRTIO_DEVICE(NAME, TYPE, CATEGORY, SUMMARY, INFO, PCI_CLASS_CODE, PROPS, OBJECT_PROPS, ...)                         \
    VIRTIO_PCI_CLASS(NAME, "", NAME, VIRTIO_PCI_AUTO, TYPE, CATEGORY, SUMMARY, INFO, PCI_CLASS_CODE, PROPS, OBJECT_PROPS);   \
    VIRTIO_PCI_CLASS(NAME, "-transitional", NULL, VIRTIO_PCI_TRANSITIONAL, TYPE, CATEGORY, SUMMARY, INFO, PCI_CLASS_CODE,    \
                     PROPS, OBJECT_PROPS);                                                                           \
    VIRTIO_PCI_CLASS(NAME, "-non-transitional", NULL, VIRTIO_PCI_MODERN, TYPE, CATEGORY, SUMMARY, INFO, PCI_CLASS_CODE,      \
                     PROPS, OBJECT_PROPS);                                                                           \
    DEVICE = {                                                                                                       \
        .name = NAME "-device", .parent = "virtio-device", .bus = "virtio-bus", .category = CATEGORY,                \
        .summary = SUMMARY, .size = sizeof(TYPE), .hotpluggable = true, .user_creatable = true, .props = PROPS,      \
        .object_props = OBJECT_PROPS, .kind_data = INFO, __VA_ARGS__                                                 \
    }
void virtio_pci_config_written(struct pci_device *pd, unsigned offset, unsigned size, uint32_t value);
void virtio_pci_config_read(struct pci_device *pd, unsigned offset, unsigned size);

#endif
